"""Ollama's own client, /api/chat."""

from job import opening, read_job, report
from ollama import Client

job = read_job()
messages = opening(job)
client = Client()
for said in job.says:
    messages.append({"role": "user", "content": said})
    if job.streamed:
        pieces: list[str] = []
        for part in client.chat(model="demo", messages=messages, stream=True):
            pieces.append(part.message.content or "")
            if job.leaves(said, len(pieces)):
                break
        text = "".join(pieces)
    else:
        text = client.chat(model="demo", messages=messages).message.content or ""
    messages.append({"role": "assistant", "content": text})
report("ollama", messages)
