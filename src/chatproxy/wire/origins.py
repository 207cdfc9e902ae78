"""Whose words are these? The origin of each part of a message (R25), which the policy decides by.

The result of a tool is named after the tool that made it, and only the call says which one that was: so calls are
learnt in the order of the messages, and a result looks its call up. A result whose call is nowhere is a connector's,
if any tool is: what is unknown falls to the stricter side.
"""

from fnmatch import fnmatchcase

from chatproxy.model import Origin
from chatproxy.wire.base import ANSWER_ROLE, INSTRUCTION_ROLES, OriginRules


class ToolOrigins:
    """The tool calls of one exchange, and so the origins of their results."""

    def __init__(self, rules: OriginRules) -> None:
        self._patterns = rules.connector_tools
        self._called: dict[str, Origin] = {}

    def learn(self, calls: list[tuple[str, str]]) -> None:
        """Remember the (id, tool name) of each call of one message.

        Some backends begin to count ids anew in each message, so a later call replaces an earlier one; within one
        message the stricter origin wins.
        """
        latest: dict[str, Origin] = {}
        for ident, name in calls:
            if latest.get(ident) is not Origin.CONNECTOR_RAW:
                latest[ident] = self.of_tool(name)
        self._called.update(latest)

    def of_tool(self, name: str) -> Origin:
        """Return the origin of what the tool *name* returns."""
        if any(fnmatchcase(name, pattern) for pattern in self._patterns):
            return Origin.CONNECTOR_RAW
        return Origin.TOOL_RESULT

    def of_result(self, ident: str, *, tool: str | None = None) -> Origin:
        """Return the origin of the result of call *ident*; *tool* is what the result itself says of its tool."""
        known = self._called.get(ident)
        if known is not None:
            return known
        if tool is not None:
            return self.of_tool(tool)
        return Origin.CONNECTOR_RAW if self._patterns else Origin.TOOL_RESULT


def of_role(role: str) -> Origin:
    """Return the origin of what a message of *role* says itself."""
    if role in INSTRUCTION_ROLES:
        return Origin.SYSTEM
    return Origin.ASSISTANT if role == ANSWER_ROLE else Origin.TYPED


def of_upload(role: str) -> Origin:
    """Return the origin of the media in a message of *role*."""
    return Origin.UPLOAD if role != ANSWER_ROLE else Origin.ASSISTANT
