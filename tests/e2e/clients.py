"""Which real clients are driven, how, and in which environment. Adding one is one line here and one program."""

import asyncio
import json
import os
import platform
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.environments import PROGRAMS, NotInstallableError, npm_environment, python_environment

_CLIENT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Client:
    """``prepare`` returns the command that runs it and where, and raises NotInstallableError.

    ``dialect``: the name of what it speaks, as the contract has it. ``by_model``: the real model's server
    understands this client.
    """

    name: str
    dialect: str
    prepare: Callable[[], tuple[list[str], Path]]
    can_stream: tuple[bool, ...] = (False, True)
    can_leave: bool = True
    by_model: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw: the messages of its conversation, as its user reads them."""

    version: str
    messages: list[dict[str, str]]
    finish: list[str] | None


async def drive(
    client: Client,
    base_url: str,
    says: list[str],
    *,
    home: Path,
    streamed: bool,
    system: str | None = None,
    leave_in: int | None = None,
) -> Seen:
    """Run a client, unmodified but for its base URL, and return what it saw. Raises NotInstallableError."""
    command, directory = await asyncio.to_thread(client.prepare)
    job = {"says": says, "streamed": streamed, "system": system, "leave_in": leave_in}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=directory, env=_environment(base_url, home)
    )
    try:
        async with asyncio.timeout(_CLIENT_SECONDS):
            output, errors = await process.communicate(json.dumps(job).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{client.name} failed:\n{errors.decode()}"
    seen: dict[str, Any] = json.loads(output)
    return Seen(seen["version"], seen["messages"], seen.get("finish"))


def _environment(base_url: str, home: Path) -> dict[str, str]:
    """Return what a user sets for each client, and nothing of this process but where programs are."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "E2E_BASE_URL": base_url,
        "OPENAI_BASE_URL": f"{base_url}/v1",
        "OPENAI_API_KEY": "sk-not-a-key",
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "sk-ant-not-a-key",
        "OLLAMA_HOST": base_url,
        "LLM_USER_PATH": str(home),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def _python(environment: str, program: str) -> Callable[[], tuple[list[str], Path]]:
    return lambda: ([str(python_environment(environment)), str(PROGRAMS / program)], PROGRAMS)


def _npm(environment: str, *arguments: str) -> Callable[[], tuple[list[str], Path]]:
    return lambda: (["node", "client.mjs", *arguments], npm_environment(environment))


def _claude_code() -> tuple[list[str], Path]:
    if os.environ.get("CHATPROXY_E2E_CLAUDE_CODE") != "1":
        raise NotInstallableError("it is proprietary: accept its licence with CHATPROXY_E2E_CLAUDE_CODE=1")
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"node_modules/@anthropic-ai/claude-code-{sys.platform}-{machine}"
    binary = npm_environment("claude-code") / package / "claude"
    if not binary.exists():
        raise NotInstallableError(f"there is no build of it for {sys.platform}-{machine}")
    return [sys.executable, str(PROGRAMS / "claude_code.py"), str(binary)], PROGRAMS


CLIENTS = (
    Client("openai (Python)", "openai_chat", _python("openai", "openai_chat.py")),
    Client("openai (JavaScript)", "openai_chat", _npm("openai")),
    Client("LangChain ChatOpenAI", "openai_chat", _python("langchain", "langchain_openai_chat.py")),
    Client("llm", "openai_chat", _python("llm", "llm_cli.py"), can_leave=False),
    Client("AI SDK, chat", "openai_chat", _npm("ai-sdk", "chat")),
    Client("anthropic (Python)", "anthropic_messages", _python("anthropic", "anthropic_messages.py")),
    Client("@anthropic-ai/sdk", "anthropic_messages", _npm("anthropic")),
    Client(
        "LangChain ChatAnthropic",
        "anthropic_messages",
        _python("langchain", "langchain_anthropic_messages.py"),
    ),
    Client(
        "openai (Python), responses",
        "openai_responses",
        _python("openai", "openai_responses.py"),
        can_leave=False,
    ),
    Client(
        "AI SDK, responses", "openai_responses", _npm("ai-sdk", "responses"), can_leave=False, by_model=False
    ),
    Client("ollama", "ollama", _python("ollama", "ollama_chat.py"), can_leave=False, by_model=False),
)
CLAUDE_CODE = Client("Claude Code", "anthropic_messages", _claude_code, can_stream=(True,), can_leave=False)
