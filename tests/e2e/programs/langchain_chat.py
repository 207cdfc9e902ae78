"""A conversation with any chat model of LangChain, in its own message types."""

from typing import Any

from job import opening, read_job, report
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage


def run(package: str, model: Any) -> None:
    job = read_job()
    messages: list[Any] = [SystemMessage(message["content"]) for message in opening(job)]
    for said in job.says:
        messages.append(HumanMessage(said))
        if job.streamed:
            answer = AIMessageChunk("")
            pieces = 0
            for chunk in model.stream(messages):
                answer += chunk
                pieces += bool(chunk.text)
                if job.leaves(said, pieces):
                    break
            messages.append(AIMessage(answer.content))
        else:
            messages.append(model.invoke(messages))
    roles = {SystemMessage: "system", HumanMessage: "user", AIMessage: "assistant"}
    report(package, [{"role": roles[type(message)], "content": message.text} for message in messages])
