"""The byte path: pass a request on, pass the answer back, show a copy of each piece to the recorder.

Rules of this file:

1. The client first. A piece goes to the client before it is remembered, and nothing here waits for consent, keys or
   storage; whatever fails in them is not this path's business. Only where a missing choice closes the gate, a chat may
   be held up before it begins (``chatproxy.workflows.gate``).
2. Every recorder is finished exactly once, synchronously, also when the task is cancelled: no ``await`` may stand
   between the end of an exchange and ``finish``.
3. An answer that is cut short is passed on cut short: without the final chunk, so that the client sees it.
4. Plain ASGI, no middleware: what Starlette runs after a response does not run when a stream is cancelled.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from chatproxy.clock import Clock
from chatproxy.errors import AmbiguousIdentityError
from chatproxy.forwarding import (
    SWITCHING_PROTOCOLS,
    Header,
    RefusedRequestError,
    RequestHead,
    ResponseHead,
    UpstreamAddress,
    request_head,
    upstream_target,
)
from chatproxy.identity import IDENTITY_HEADERS, IdentifyCaller
from chatproxy.model import Caller, StreamEnd
from chatproxy.policy.reasons import Reason
from chatproxy.telemetry import Log, Metrics
from chatproxy.web.connection import GONE, SWITCH, TARGET, Refusal
from chatproxy.web.handshake import (
    UPGRADE_REQUIRED,
    VERSION_HEADERS,
    agreed_extensions,
    upgrade_request,
    upgrade_response,
)
from chatproxy.web.tunnel import Tunnel, TunnelLimits
from chatproxy.web.upstream import (
    Upstream,
    UpstreamCall,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from chatproxy.wire import Dialects
from chatproxy.wire.base import Failure
from chatproxy.workflows.announce import Announcer
from chatproxy.workflows.frame_copy import FrameCapture
from chatproxy.workflows.gate import CHOICE_REQUIRED, Gate
from chatproxy.workflows.record import Capture, Recorder

_log = Log("proxy")
_LONGEST_CONVERSATION = 256
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

_LARGE_PIECE = 65_536
_NOTHING_YET = {"type": "http.response.body", "body": b"", "more_body": True}
"""Sending it takes until the client has taken what was sent before: only then is more of a large answer read."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_Handover = Callable[[UpstreamCall, ResponseHead], Coroutine[None, None, None]]
"""Makes one tunnel of a call that was answered with 101 and its client. Raises UpstreamError; what it returns does not.
"""


class Proxy:
    """ASGI application that is a gateway to one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        address: UpstreamAddress,
        dialects: Dialects,
        identify: IdentifyCaller,
        capture: Capture,
        frames: FrameCapture,
        tunnel_idle_timeout: float,
        announcer: Announcer,
        gate: Gate | None = None,
        metrics: Metrics,
        clock: Clock,
        new_request_id: Callable[[], str],
        refuse_uncaptured: bool,
        hold_until_safe: bool = False,
        conversation_headers: Sequence[bytes] = (),
    ) -> None:
        """``conversation_headers``: in which clients may name the conversation, in lower case; the first that is there.

        ``gate``: holds up chats of who must choose first; None: nobody must.

        ``refuse_uncaptured``: a chat that finds no room to be kept is answered with 503 and not forwarded.

        ``hold_until_safe``: the end of an answer waits until its copy survives a crash; if it does not, the answer is cut.

        ``tunnel_idle_timeout``: seconds without a byte after which a WebSocket connection is cut.
        """
        self._upstream = upstream
        self._address = address
        self._dialects = dialects
        self._identify = identify
        self._capture = capture
        self._frames = frames
        self._tunnel_limits = TunnelLimits(tunnel_idle_timeout, refuse_unkept=refuse_uncaptured)
        self._announcer = announcer
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._new_request_id = new_request_id
        self._refuse_uncaptured = refuse_uncaptured
        self._hold_until_safe = hold_until_safe
        self._conversation_headers = tuple(conversation_headers)
        self._has_warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers: list[Header] = scope["headers"]
        path: str = scope["raw_path"].decode("ascii", "replace")
        try:
            client = scope["client"]
            identified = self._identify(headers, client[0] if client else None)
            target = upstream_target(scope[TARGET], base_path=self._address.base_path)
            head = request_head(headers, authority=self._address.authority, drop=IDENTITY_HEADERS)
            if scope["method"] == "DELETE" and self._dialects.find("POST", path):
                _require_no_body(head)
            if SWITCH in scope:
                head = upgrade_request(scope["method"], headers, head)
        except RefusedRequestError as refused:
            await self._fail(scope, send, path, refused.status, refused.code, str(refused), closing=True)
            return
        except AmbiguousIdentityError as refused:
            await self._fail(scope, send, path, 400, "ambiguous_identity", str(refused), closing=True)
            return
        if identified.rejected:
            self._metrics.identity_rejected.labels(identified.rejected).inc()
        if self._gate is not None and await self._is_held_up(
            self._gate, scope, send, path, identified.caller
        ):
            return
        await self._pass(scope, receive, send, path, target, head, identified.caller)

    async def _is_held_up(self, gate: Gate, scope: Scope, send: Send, path: str, caller: Caller) -> bool:
        """Refuse a chat whose person must choose first, and say so. What would not be captured is not concerned."""
        is_chat = (
            self._frames.claims(path)
            if SWITCH in scope
            else self._dialects.find(scope["method"], path) is not None
        )
        refusal = await gate.refusal(caller) if is_chat else None
        if refusal is not None:
            await self._fail(scope, send, path, 403, CHOICE_REQUIRED, refusal)
        return refusal is not None

    async def _pass(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        path: str,
        target: bytes,
        head: RequestHead,
        caller: Caller,
    ) -> None:
        """Forward a request that may pass, and relay the answer."""
        method: str = scope["method"]
        handover: _Handover | None = None
        if SWITCH in scope:

            def handover(call: UpstreamCall, head: ResponseHead) -> Coroutine[None, None, None]:
                return self._tunnel(scope, path, caller, call, head)

        dialect = None if handover else self._dialects.find(method, path)
        received_at = self._clock()
        opened: Recorder | Reason | None = None
        if dialect is not None:
            opened = self._begin_copy(scope, dialect.name, caller, received_at=received_at)
            if opened is None and self._refuse_uncaptured:
                message = "the conversation cannot be kept at the moment; try again later"
                await self._fail(scope, send, path, 503, "capture_unavailable", message)
                return
        elif self._dialects.looks_like_chat(method, path):
            self._uncaptured()
        recorder = opened if isinstance(opened, Recorder) else None
        self._metrics.requests.labels("captured" if recorder else "passed").inc()

        relay = _Relay(
            self._upstream,
            receive,
            send,
            recorder,
            tell_when_gone=scope[GONE],
            hold_until_safe=self._hold_until_safe,
        )
        try:
            announcement = None
            if dialect is not None:
                announcement = self._announcer.begin(caller, opened, received_at=received_at)
            await relay.run(
                method.encode(),
                target,
                head.headers,
                length=head.length,
                announcement=announcement,
                handover=handover,
            )
        except UpstreamError as error:
            relay.note_failure()
            if relay.client_is_gone:
                pass
            elif relay.has_answered:
                _log.warning("upstream answer cut short", kind=type(error).__name__)
            else:
                _log.warning("upstream gave no answer", kind=type(error).__name__, what=str(error))
                status, code, message = _blame(error)
                await self._fail(scope, send, path, status, code, message)
        except _UnsafeError:
            self._metrics.failures.labels("capture_unsafe").inc()
            _log.error("answer cut short: its copy could not be made safe; see /readyz")
        except RefusedRequestError as refused:
            relay.note_failure()
            await self._fail(scope, send, path, refused.status, refused.code, str(refused), closing=True)
        except asyncio.CancelledError:
            relay.close()
            if not relay.has_answered and not relay.client_is_gone:
                message = "chatproxy is stopping and did not wait for the answer; try again"
                await self._fail(scope, send, path, 503, "stopping", message, closing=True)
            raise
        finally:
            relay.close()
            self._count_bytes(relay)

    def _begin_copy(
        self, scope: Scope, dialect: str, caller: Caller, *, received_at: int
    ) -> Recorder | Reason | None:
        """As ``Capture.begin``, with what the request's headers say."""
        said = _by_name(scope["headers"])
        return self._capture.begin(
            caller,
            dialect=dialect,
            request_encoding=_text(said, b"content-encoding"),
            received_at=received_at,
            request_key=said.get(b"idempotency-key", b""),
            conversation=self._named_conversation(said),
        )

    def _count_bytes(self, relay: "_Relay") -> None:
        self._metrics.relayed_bytes.labels("request").inc(relay.request_bytes)
        self._metrics.relayed_bytes.labels("reply").inc(relay.reply_bytes)

    def _tunnel(
        self, scope: Scope, path: str, caller: Caller, call: UpstreamCall, head: ResponseHead
    ) -> Coroutine[None, None, None]:
        """See _Handover."""
        headers = upgrade_response(scope["headers"], head)
        tunnel = Tunnel(
            call,
            self._tunnel_limits,
            sent=self._metrics.relayed_bytes.labels("request"),
            returned=self._metrics.relayed_bytes.labels("reply"),
        )
        conversation = self._named_conversation(_by_name(scope["headers"]))
        copy = self._frames.begin(caller, path, agreed_extensions(head), conversation=conversation)
        answer = b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n\r\n" % b"\r\n".join(map(b": ".join, headers))
        return tunnel.run(scope[SWITCH], answer, copy)

    def _named_conversation(self, said: Mapping[bytes, bytes]) -> str | None:
        """Return what the client names the conversation, as ``Exchange`` has it."""
        for name in self._conversation_headers:
            value = _text(said, name)
            if value:
                return f"{name.decode()}\0{value}" if len(value) <= _LONGEST_CONVERSATION else None
        return None

    def _uncaptured(self) -> None:
        self._metrics.uncaptured.inc()
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "requests look like chat but are of a dialect that is not captured; "
                "they pass and nothing of them is kept (counted as chatproxy_uncaptured_chats_total)"
            )

    def words(self, refusal: Refusal) -> tuple[bytes, list[Header]]:
        """Return body and headers of the answer to what is refused before it gets here."""
        request_id = self._new_request_id()
        status, code, message, method, path = refusal
        self._metrics.failures.labels(code).inc()
        _log.warning(
            "request answered with an error of chatproxy", status=status, code=code, request_id=request_id
        )
        body = self._dialects.render_failure(method, path, Failure(status, code, message, request_id))
        return body, [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]

    async def _fail(
        self,
        scope: Scope,
        send: Send,
        path: str,
        status: int,
        code: str,
        message: str,
        *,
        closing: bool = False,
    ) -> None:
        """Answer with an error of our own, in the dialect of the path, with a request id.

        ``closing``: what follows on the connection cannot be trusted to be another request (security D1).
        """
        given = _REQUEST_ID.fullmatch(_by_name(scope["headers"]).get(b"x-request-id", b""))
        request_id = given[0].decode() if given else self._new_request_id()
        self._metrics.failures.labels(code).inc()
        _log.warning(
            "request answered with an error of chatproxy", status=status, code=code, request_id=request_id
        )
        failure = Failure(status, code, message, request_id)
        body = self._dialects.render_failure(scope["method"], path, failure)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
        ]
        if status == UPGRADE_REQUIRED:
            headers += VERSION_HEADERS
        if closing:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _UnsafeError(Exception):
    """The copy of an answer does not survive a crash, so its end is not passed on."""


class _Relay:
    """One exchange under way: two directions, one end."""

    def __init__(
        self,
        upstream: Upstream,
        receive: Receive,
        send: Send,
        recorder: Recorder | None,
        *,
        tell_when_gone: Callable[[Callable[[], None]], None],
        hold_until_safe: bool,
    ) -> None:
        self._upstream = upstream
        self._tell_when_gone = tell_when_gone
        self._receive = receive
        self._send = send
        self._recorder = recorder
        self._hold_until_safe = hold_until_safe
        self._call: UpstreamCall | None = None
        self._watch: asyncio.Task[None] | None = None
        # Until something else is known: what ends this exchange is chatproxy itself stopping.
        self._end = StreamEnd.INTERRUPTED
        self.client_is_gone = False
        self.has_answered = False
        self.request_bytes = 0
        self.reply_bytes = 0

    async def run(
        self,
        method: bytes,
        target: bytes,
        headers: list[Header],
        *,
        length: int | None,
        announcement: Callable[[], list[Header]] | None,
        handover: _Handover | None,
    ) -> None:
        """Forward the request and relay the answer. Raises UpstreamError, _UnsafeError.

        ``handover`` is for a request that asks for a WebSocket.
        """
        body, more_body = b"", False
        if length != 0:
            message = await self._receive()
            if message["type"] != "http.request":
                self._client_left()
                return
            body, more_body = message["body"], message["more_body"]
            self._remember_request(body, more_body=more_body)
        call = await self._upstream.start(
            method,
            target,
            headers,
            length=length,
            body=body,
            more_body=more_body,
            may_switch=handover is not None,
        )
        self._call = call
        if more_body or handover is not None:
            self._watch = asyncio.get_running_loop().create_task(
                self._watch_client(call, more_body=more_body)
            )
        else:
            self._tell_when_gone(self._give_up)
        head = await call.head()
        if handover is not None and head.status == SWITCHING_PROTOCOLS:
            tunnel = handover(call, head)
            self.has_answered = True
            if self._watch is not None:
                self._watch.cancel()
            await tunnel
            self._end = StreamEnd.COMPLETE
            return
        recorder = self._recorder
        if recorder is not None:
            said = _by_name(head.headers)
            recorder.head(head.status, _text(said, b"content-type"), _text(said, b"content-encoding"))
        reply_headers = head.headers if announcement is None else [*head.headers, *announcement()]
        self.has_answered = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": reply_headers})
        while True:
            piece, more = await call.read()
            if not more:
                self._end = StreamEnd.COMPLETE
                if self._hold_until_safe and recorder is not None:
                    await self._make_safe(recorder, piece)
                    recorder = None
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
            self.reply_bytes += len(piece)
            if recorder is not None and piece:
                recorder.reply(piece)
            if not more:
                return
            if len(piece) > _LARGE_PIECE:
                piece = b""
                await self._send(_NOTHING_YET)

    async def _make_safe(self, recorder: Recorder, last: bytes) -> None:
        """Finish the copy, and wait until it survives a crash. Raises _UnsafeError."""
        if last:
            recorder.reply(last)
        self.close()
        if not await recorder.is_safe():
            self._end = StreamEnd.ERROR
            raise _UnsafeError

    async def _watch_client(self, call: UpstreamCall, *, more_body: bool) -> None:
        """Pass on the rest of the request's body, then notice when the client leaves."""
        upstream_wants_more = True
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                break
            if more_body:
                piece, more_body = message["body"], message["more_body"]
                self._remember_request(piece, more_body=more_body)
                if upstream_wants_more:
                    call.write(piece, more_body=more_body)
                    upstream_wants_more = await call.drain()
        self._give_up()

    def _give_up(self) -> None:
        """The client has gone, or has all of the answer."""
        if self._end is StreamEnd.INTERRUPTED:
            self._client_left()
            if self._call is not None:
                self._call.abort()

    def _remember_request(self, piece: bytes, *, more_body: bool) -> None:
        self.request_bytes += len(piece)
        recorder = self._recorder
        if recorder is not None:
            if piece:
                recorder.request(piece)
            if not more_body:
                recorder.request_ended()

    def _client_left(self) -> None:
        self.client_is_gone = True
        self._end = StreamEnd.CLIENT_ABORTED

    def note_failure(self) -> None:
        """The upstream failed, or was given up because the client had left."""
        if not self.client_is_gone:
            self._end = StreamEnd.UPSTREAM_ABORTED if self.has_answered else StreamEnd.ERROR

    def close(self) -> None:
        """End both directions and finish the recorder. Never waits, never raises; may be called again."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.finish(self._end)
        if self._end is not StreamEnd.COMPLETE:
            if self._call is not None:
                self._call.abort()
            if self._watch is not None:
                self._watch.cancel()


def _require_no_body(head: RequestHead) -> None:
    """Refuse a request that takes something back where chats are taken, and has a body (security D1, 33)."""
    if head.length != 0:
        raise RefusedRequestError("unexpected_body", "a DELETE request has no body here; leave it out")


def _blame(error: UpstreamError) -> tuple[int, str, str]:
    """Return status (RFC 9110 15.6), code and words for an upstream that failed before it answered.

    Where it is and what exactly is wrong with it is for the operator's log, not for clients.
    """
    if isinstance(error, UpstreamTimeoutError):
        return 504, "upstream_timeout", "the chat backend took too long; try again later"
    if isinstance(error, UpstreamUnreachableError):
        return 502, "upstream_unreachable", "the chat backend cannot be reached; try again later"
    return 502, "upstream_error", "the chat backend broke off or gave no valid answer; try again later"


def _by_name(headers: list[Header]) -> dict[bytes, bytes]:
    """Return the first value of each header by its name in lower case."""
    return {name.lower(): value for name, value in reversed(headers)}


def _text(said: Mapping[bytes, bytes], name: bytes) -> str:
    return said.get(name, b"").decode("latin-1")
