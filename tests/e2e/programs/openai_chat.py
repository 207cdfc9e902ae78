"""The official openai SDK, chat completions."""

from job import opening, read_job, report
from openai import OpenAI

job = read_job()
messages = opening(job)
finish = []
with OpenAI() as client:
    for said in job.says:
        messages.append({"role": "user", "content": said})
        if job.streamed:
            pieces: list[str] = []
            with client.chat.completions.create(
                model="demo", messages=messages, max_tokens=24, stream=True
            ) as stream:
                for chunk in stream:
                    for choice in chunk.choices:
                        pieces += [choice.delta.content] if choice.delta.content else []
                        finish += [choice.finish_reason] if choice.finish_reason else []
                    if job.leaves(said, len(pieces)):
                        break
            text = "".join(pieces)
        else:
            completion = client.chat.completions.create(model="demo", messages=messages, max_tokens=24)
            text = completion.choices[0].message.content or ""
            finish.append(completion.choices[0].finish_reason)
        messages.append({"role": "assistant", "content": text})
report("openai", messages, finish=finish)
