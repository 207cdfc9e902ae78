"""Claude Code's command line, if the person who runs this accepts its licence: works, and is kept as it was seen.

It wraps what its user types into instructions of its own, which its user does not see, so what was typed is looked for
among the parts of what was sent; its answers must be equal.
"""

from pathlib import Path

from e2e.clients import CLAUDE_CODE, drive
from e2e.conversations import kept, said
from e2e.route import Route
from e2e.tap import tap

SAYS = ["What is a lighthouse?", "Where would I find one?", "And who looks after it?"]


async def test_a_session_that_is_resumed_is_one_conversation(
    demo: Route, tmp_path: Path, ran: dict[str, str]
) -> None:
    identity = [
        (b"X-Chat-Subject", b"claude code"),
        (b"X-Chat-Plan", b"claude_code"),
        (b"X-Chat-Surface", b"code"),
    ]
    async with tap(demo.proxy.url, adding=identity) as front:
        seen = await drive(CLAUDE_CODE, front.url, SAYS, home=tmp_path, streamed=True)

    turns = await demo.proxy.turns("claude code")
    assert [turn["end"] for turn in turns] == ["complete"] * len(SAYS)
    (handle,) = {turn["conversation"] for turn in turns}
    shown = await demo.proxy.conversation(handle)
    typed = [part["text"] for turn in shown for message in turn["messages"] for part in message["parts"]]
    assert [text for text in typed if text in SAYS] == SAYS
    assert [text for role, text in kept(shown) if role == "assistant"] == [
        text for role, text in said(seen) if role == "assistant"
    ]
    ran[CLAUDE_CODE.name] = seen.version
