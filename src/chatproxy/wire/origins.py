"""Whose words are these? The origin of each part of a message (R25), which the policy decides by.

The result of a tool is named after the tool that made it, and only the call says which one that was: so calls are
learnt in the order of the messages, and a result looks its call up. A result whose call is nowhere is a connector's,
if any tool is: what is unknown falls to the stricter side.

Settings may say of a type of block that what it holds is an upload, a connector's raw data, or pasted from a connector
by the person, which is the person's own text (R25). Uploads and what was pasted are what a person sends; raw data is
raw data wherever it stands, and nothing makes anything else of it.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property

from msgspec.structs import replace

from chatproxy.model import Origin, Part, PartKind
from chatproxy.wire.base import ANSWER_ROLE, INSTRUCTION_ROLES, BlockOrigin, OriginRules

_OF_A_PERSON = frozenset({Origin.TYPED, Origin.UPLOAD})


class Origins:
    """The rules as they hold in one exchange, and the tool calls in it, by which its results have their origins."""

    def __init__(self, rules: OriginRules) -> None:
        self._patterns = rules.connector_tools
        self._block_origins = rules.block_origins
        self._called: dict[str, Origin] = {}
        self._rules_of_types: dict[str, int | None] = {}
        """Which of the rules for blocks is the first for a type; the same few types come again and again."""

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

    def of_block(self, kinds: Iterable[object], parts: Sequence[Part]) -> Sequence[Part]:
        """Return *parts*, which were read from a block of one of *kinds*, with the origin that its type gives them.

        Calls of tools are the model's own words, whatever block they stand in.
        """
        if not parts or not self._blocks:
            return parts
        rules = [
            rule for kind in kinds if isinstance(kind, str) and (rule := self._rule_of(kind)) is not None
        ]
        if not rules:
            return parts
        origin = self._blocks[min(rules)].origin
        return [_with_origin(part, origin) for part in parts]

    @cached_property
    def _blocks(self) -> list[BlockOrigin]:
        """The rules for blocks, the strictest first. Most exchanges are texts, which need none."""
        return sorted(self._block_origins, key=lambda rule: rule.origin is not Origin.CONNECTOR_RAW)

    def _rule_of(self, kind: str) -> int | None:
        if kind not in self._rules_of_types:
            matching = (number for number, rule in enumerate(self._blocks) if fnmatchcase(kind, rule.types))
            self._rules_of_types[kind] = next(matching, None)
        return self._rules_of_types[kind]


def kinds_of(block: object, holds: object = None) -> list[object]:
    """Return the type of *block*, and those of the blocks that it holds in the list *holds*."""
    if not isinstance(holds, list):
        return [block.get("type")] if isinstance(block, dict) else []
    return [each.get("type") for each in (block, *holds) if isinstance(each, dict)]


def _with_origin(part: Part, origin: Origin) -> Part:
    if part.kind is PartKind.TOOL_CALL:
        return part
    if origin is not Origin.CONNECTOR_RAW and part.origin not in _OF_A_PERSON:
        return part
    return replace(part, origin=origin)


def of_role(role: str) -> Origin:
    """Return the origin of what a message of *role* says itself."""
    if role in INSTRUCTION_ROLES:
        return Origin.SYSTEM
    return Origin.ASSISTANT if role == ANSWER_ROLE else Origin.TYPED


def of_upload(role: str) -> Origin:
    """Return the origin of the media in a message of *role*."""
    return Origin.UPLOAD if role != ANSWER_ROLE else Origin.ASSISTANT
