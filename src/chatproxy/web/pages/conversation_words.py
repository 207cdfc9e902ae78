"""What does a page say of a conversation, and of what was said in it?"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from chatproxy.model import Message, Part, PartKind
from chatproxy.policy.facts import Override
from chatproxy.policy.reasons import Reason
from chatproxy.web.pages.words import Words
from chatproxy.workflows.person_views import ConversationView, StayingCopy
from chatproxy.workflows.transcripts import OpenedTurn

SETTINGS = {"follow": Override.INHERIT, "share": Override.SHARE, "exclude": Override.EXCLUDE}
"""What may be set for one conversation, by the name that a form gives it."""
_BEYOND_SHARING = frozenset(
    {Reason.INCOGNITO, Reason.SIGNAL_OPT_OUT, Reason.PLAN_EXEMPT, Reason.PLAN_UNKNOWN}
)
"""What a share cannot change, so none is offered (R17)."""
_OF_THE_GENERAL_CHOICE = frozenset(
    {
        Reason.ELIGIBLE_CONSENT,
        Reason.ELIGIBLE_RESUMED,
        Reason.ELIGIBLE_PRIOR_VERSION,
        Reason.NOT_RESUMED,
        Reason.PRE_CONSENT_TURN,
        Reason.CONSENT_WITHDRAWN,
        Reason.CONSENT_REFUSED,
        Reason.CONSENT_DEFERRED,
        Reason.CONSENT_EXPIRED,
        Reason.CONSENT_TERMINATED,
        Reason.CONSENT_INVALIDATED,
        Reason.CONSENT_STALE_VERSION,
        Reason.CONSENT_UNKNOWN,
    }
)
"""What a share puts another reason in the place of."""
_SETTING_NAMES = {override: name for name, override in SETTINGS.items()}
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class ShownConversation:
    """A conversation in words. Instants are ms."""

    handle: str
    started_at: int
    expires_at: int
    about: Markup
    """How long it is and when it was last continued."""
    eligible: bool
    why: tuple[Markup, ...]
    setting: str
    may_share: bool
    is_deleted: bool
    has_feedback: bool
    stays: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class SaidPart:
    """A piece of a message. ``kind``: what it is, unless it is simply text."""

    kind: Markup | None
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """A message as the page shows it. ``at`` (ms) only for what the person said: answers follow at once."""

    role: str
    at: int | None
    parts: tuple[SaidPart, ...]


def shown_conversation(view: ConversationView, words: Words) -> ShownConversation:
    """Return *view* in the words of its person."""
    about = [
        words.count("list.turns", view.turns),
        words.say("list.last", at=words.moment(view.last_at)),
    ]
    if view.model is not None:
        about.append(words.say("list.model", model=view.model))
    return ShownConversation(
        handle=view.handle,
        started_at=view.started_at,
        expires_at=view.expires_at,
        about=Markup(" · ").join(about),
        eligible=view.eligible,
        why=tuple(_why(view, words)),
        setting=_SETTING_NAMES[view.override],
        may_share=view.reason not in _BEYOND_SHARING,
        is_deleted=view.is_deleted,
        has_feedback=view.feedback is not None,
        stays=staying(view.stays, words),
    )


def _why(view: ConversationView, words: Words) -> Iterator[Markup]:
    """Yield why it is as it is. What was set a moment ago may not have reached the decision yet."""
    if (
        (view.reason == Reason.CONV_EXCLUDED and view.override is not Override.EXCLUDE)
        or (view.reason == Reason.ELIGIBLE_CONV_SHARE and view.override is not Override.SHARE)
        or (view.reason in _OF_THE_GENERAL_CHOICE and view.override is Override.SHARE)
    ):
        yield words.say("list.settling")
    else:
        yield words.say(f"reason.{view.reason}")
    for code in view.also:
        yield words.say(f"reason.{code}")


def staying(copies: Sequence[StayingCopy], words: Words) -> tuple[Markup, ...]:
    """Return, a sentence each, what a deletion does not end, why and until when (R22)."""
    return tuple(
        words.say("stays.HOLD")
        if copy.ground == Reason.LEGAL_HOLD
        else words.say(f"stays.{copy.ground}", until=words.day(copy.until))
        for copy in copies
    )


def said(turns: Sequence[OpenedTurn], words: Words) -> list[Said]:
    """Return what was said, in order."""
    return [
        Said(
            role=ROLES.get(message.role, "other"),
            at=turn.kept.facts.received_at if message.role == "user" else None,
            parts=tuple(said_part(part, words) for part in message.parts),
        )
        for turn in turns
        for message in _messages(turn)
    ]


def _messages(turn: OpenedTurn) -> Iterator[Message]:
    yield from turn.transcript.input
    yield from turn.transcript.output


def said_part(part: Part, words: Words) -> SaidPart:
    """Return a piece of a message in words."""
    body = part.body
    match part.kind:
        case PartKind.TEXT:
            return SaidPart(None, str(body.get("text", "")))
        case PartKind.REASONING | PartKind.REFUSAL:
            return SaidPart(words.say(f"conversation.{part.kind}"), str(body.get("text", "")))
        case PartKind.TOOL_CALL:
            kind = words.say("conversation.tool_call", name=body.get("name", ""))
            return SaidPart(kind, str(body.get("arguments", "")))
        case PartKind.TOOL_RESULT:
            text = body.get("text")
            return SaidPart(
                words.say("conversation.tool_result"),
                str(text) if text is not None else _json(body.get("content")),
            )
        case PartKind.MEDIA:
            kind = words.say(
                "conversation.media", mime=body.get("mime") or "?", bytes=body.get("bytes") or "?"
            )
            return SaidPart(kind, "")
        case PartKind.RAW_REQUEST | PartKind.RAW_REPLY:
            return SaidPart(words.say("conversation.raw"), _raw(str(body.get("base64", ""))))
        case PartKind.OTHER:
            return SaidPart(words.say("conversation.other"), _json(dict(body)))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _raw(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""
