"""The official openai SDK, responses, with every item of the conversation in each request."""

from typing import Any

from job import opening, read_job, report
from openai import OpenAI

job = read_job()
messages = opening(job)
items: list[Any] = list(messages)
with OpenAI() as client:
    for said in job.says:
        messages.append({"role": "user", "content": said})
        items.append(messages[-1])
        if job.streamed:
            text = ""
            with client.responses.create(
                model="demo", input=items, max_output_tokens=24, stream=True
            ) as stream:
                for event in stream:
                    if event.type == "response.output_text.delta":
                        text += event.delta
                    if event.type in {"response.completed", "response.incomplete"}:
                        response = event.response
        else:
            response = client.responses.create(model="demo", input=items, max_output_tokens=24)
            text = response.output_text
        messages.append({"role": "assistant", "content": text})
        items += [item.model_dump(exclude_none=True) for item in response.output]
report("openai", messages)
