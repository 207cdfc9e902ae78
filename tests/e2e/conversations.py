"""Does the stored transcript equal what the client saw?"""

from typing import Any

from e2e.clients import Seen

Said = tuple[str, str]


def said(seen: Seen) -> list[Said]:
    """Return what the client saw, message by message."""
    return [(message["role"], message["content"]) for message in seen.messages]


def kept(turns: list[dict[str, Any]]) -> list[Said]:
    """Return what was kept, message by message, in the order of the turns."""
    return [
        (message["role"], "".join(part.get("text", f"<{part['kind']}>") for part in message["parts"]))
        for turn in turns
        for message in turn["messages"]
    ]
