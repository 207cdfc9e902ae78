"""The command ``llm``: one process a turn, which continues the conversation in its own database."""

import json
import os
import subprocess
import sys
from pathlib import Path

from job import opening, read_job, report

job = read_job()
home = Path(os.environ["LLM_USER_PATH"])
# JSON is YAML: what a user writes by hand for a server that speaks OpenAI's dialect.
model = {"model_id": "proxied", "model_name": "demo", "api_base": os.environ["OPENAI_BASE_URL"]}
(home / "extra-openai-models.yaml").write_text(json.dumps([model]))
llm = Path(sys.executable).with_name("llm")


def run(*arguments: str) -> str:
    return subprocess.run([llm, *arguments], check=True, capture_output=True, text=True).stdout


for turn, said in enumerate(job.says):
    options = ["-c"] if turn else ["-s", job.system] if job.system else []
    run(
        "prompt",
        "-m",
        "proxied",
        "-o",
        "max_tokens",
        "24",
        *options,
        *([] if job.streamed else ["--no-stream"]),
        said,
    )
messages = opening(job)
for entry in json.loads(run("logs", "-n", "0", "--json"))[::1]:
    messages.append({"role": "user", "content": entry["prompt"]})
    messages.append({"role": "assistant", "content": entry["response"]})
report("llm", messages)
