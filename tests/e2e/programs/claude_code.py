"""The command line of Claude Code: one process a turn, which resumes the session it keeps itself."""

import json
import subprocess
import sys

from job import read_job

job = read_job()
claude = sys.argv[1]


def run(*arguments: str) -> str:
    return subprocess.run(
        [claude, *arguments], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    ).stdout


messages = []
session: list[str] = []
for said in job.says:
    answer = json.loads(run("-p", said, "--output-format", "json", *session))
    session = ["--resume", answer["session_id"]]
    messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answer["result"]}]
json.dump({"version": run("--version").split()[0], "messages": messages}, sys.stdout)
