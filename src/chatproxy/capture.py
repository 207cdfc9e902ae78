"""What was said in this exchange? From the bytes that were copied to the turn that is kept.

1. Nothing here can harm the chat, which is over; nothing raises for any bytes.
2. What is not understood is not lost: if request or reply cannot be read, or the copy was cut at the capture limit,
   the bytes of both are the turn's parts, as they came (``parsed`` false). The policy never makes them eligible.
3. An exchange ended as the proxy saw it, but for what only the dialect knows: an error event or status is an error;
   a stream that closed without the dialect's own end was cut by the upstream; and one whose own end had come was
   complete, even if the client hung up then, as some do on reading it.
"""

from base64 import b64encode
from typing import Any

from chatproxy.errors import UnreadableError
from chatproxy.model import Exchange, Message, Origin, Part, PartKind, StreamEnd, Transcript
from chatproxy.unshown import Unshown
from chatproxy.wire import Dialects
from chatproxy.wire.base import ChatReply, ChatRequest, Dialect, OriginRules
from chatproxy.wire.coding import decode
from chatproxy.wire.json_reading import well_formed
from chatproxy.wire.media_content import with_content

_ERROR_STATUS = 400


class Understood(Unshown, frozen=True):
    """One exchange as read."""

    transcript: Transcript
    end: StreamEnd
    history: tuple[Message, ...] = ()
    """What the request sent before its new input, to be matched and counted, not stored (R13)."""
    conversation: str | None = None
    """The dialect's own conversation id, where it has one."""
    continues: str | None = None
    """The name of the answer that the request continues without sending it again."""
    reply_ids: tuple[str, ...] = ()
    """The names by which a later request can refer to the answer."""


def understand(
    exchange: Exchange, dialects: Dialects, rules: OriginRules, limit: int, *, media_room: int = 0
) -> Understood:
    """Read *exchange*, which has ended. *limit*: bytes that a body may have after its content coding is undone.

    *media_room*: bytes of pictures, sounds and files that are part of the turn whole; others are only described.
    """
    dialect = dialects.named(exchange.dialect)
    if dialect is None or exchange.truncated:
        return keep_raw(exchange)
    try:
        asked = decode(b"".join(exchange.request), exchange.request_encoding, limit)
        request = well_formed(dialect.read_request(asked, rules), ChatRequest, source=asked)
        answered = (
            decode(b"".join(exchange.reply), exchange.content_encoding, limit) if exchange.status else b""
        )
        reply = _reply(exchange, dialect, rules, answered)
    except UnreadableError:
        return keep_raw(exchange)
    said, output = request.messages[request.new_from :], reply.output
    if media_room:
        said, media_room = with_content(said, asked, room=media_room)
        output, _ = with_content(output, answered, room=media_room)
    return Understood(
        Transcript(
            input=said,
            output=output,
            model=reply.model or request.model,
            usage=reply.usage,
            finish=reply.finish,
        ),
        end=_end(exchange, reply),
        history=request.messages[: request.new_from],
        conversation=request.conversation or reply.conversation,
        continues=request.continues,
        reply_ids=reply.reply_ids,
    )


def keep_raw(exchange: Exchange) -> Understood:
    """Return *exchange* as the bytes that it is."""
    request = _raw(PartKind.RAW_REQUEST, exchange.request, encoding=exchange.request_encoding)
    reply = _raw(
        PartKind.RAW_REPLY,
        exchange.reply,
        encoding=exchange.content_encoding,
        type=exchange.content_type,
        status=exchange.status,
    )
    transcript = Transcript(
        input=(Message("user", (request,)),),
        output=(Message("assistant", (reply,), choice=0),) if exchange.status else (),
        parsed=False,
    )
    return Understood(transcript, end=_end(exchange, ChatReply(())))


def _reply(exchange: Exchange, dialect: Dialect, rules: OriginRules, body: bytes) -> ChatReply:
    if not exchange.status:
        return ChatReply(())
    reply = dialect.read_reply(exchange.status, exchange.content_type, body, rules)
    return well_formed(reply, ChatReply, source=body)


def _end(exchange: Exchange, reply: ChatReply) -> StreamEnd:
    if reply.failed or exchange.status >= _ERROR_STATUS:
        return StreamEnd.ERROR
    if reply.streamed and reply.finished:
        return StreamEnd.COMPLETE
    if reply.streamed and exchange.end is StreamEnd.COMPLETE:
        return StreamEnd.UPSTREAM_ABORTED
    return exchange.end or StreamEnd.INTERRUPTED


def _raw(kind: PartKind, chunks: list[bytes], **facts: str | int) -> Part:
    body: dict[str, Any] = {"base64": b64encode(b"".join(chunks)).decode()}
    return Part(kind, Origin.RAW, body | {name: fact for name, fact in facts.items() if fact})
