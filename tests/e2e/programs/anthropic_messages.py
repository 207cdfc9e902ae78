"""The official anthropic SDK, messages."""

from anthropic import Anthropic
from job import opening, read_job, report

job = read_job()
messages = []
finish = []
system = {"system": job.system} if job.system else {}
with Anthropic() as client:
    for said in job.says:
        messages.append({"role": "user", "content": said})
        if job.streamed:
            pieces: list[str] = []
            with client.messages.stream(model="demo", messages=messages, max_tokens=24, **system) as stream:
                for text in stream.text_stream:
                    pieces.append(text)
                    if job.leaves(said, len(pieces)):
                        break
                finish.append(stream.current_message_snapshot.stop_reason)
            text = "".join(pieces)
        else:
            message = client.messages.create(model="demo", messages=messages, max_tokens=24, **system)
            text = "".join(block.text for block in message.content if block.type == "text")
            finish.append(message.stop_reason)
        messages.append({"role": "assistant", "content": text})
report("anthropic", opening(job) + messages, finish=[reason for reason in finish if reason])
