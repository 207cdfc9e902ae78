"""The byte path: pass a request on, pass the answer back, show a copy of each piece to the recorder.

Rules of this file:

1. The client first. A piece goes to the client before it is remembered, and nothing here waits for consent, keys or
   storage; whatever fails in them is not this path's business. Only where a missing choice closes the gate, a chat may
   be held up before it begins (``chatproxy.workflows.gate``).
2. Every recorder is finished exactly once, synchronously, also when the task is cancelled: no ``await`` may stand
   between the end of an exchange and ``finish``.
3. An answer that is cut short is passed on cut short: without the final chunk, so that the client sees it.
4. What arrives of an answer goes out in the same step, in the callback of the upstream's connection: no task has to wake for
   it. The task of a request begins it, waits for its end, and does whatever else must wait.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

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
from chatproxy.web.client_call import ClientCall, Switch
from chatproxy.web.connection import Refusal
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
from chatproxy.workflows.announce import Announcement, Announcer
from chatproxy.workflows.frame_copy import FrameCapture
from chatproxy.workflows.gate import CHOICE_REQUIRED, Gate
from chatproxy.workflows.record import Capture, Recorder

_log = Log("proxy")
_LONGEST_CONVERSATION = 256
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

_Handover = Callable[[UpstreamCall, ResponseHead], Coroutine[None, None, None]]
"""Makes one tunnel of a call that was answered with 101 and its client. Raises UpstreamError; what it returns does not.
"""


class Proxy:
    """A gateway to one upstream."""

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
        self._request_bytes = metrics.relayed_bytes.labels("request")
        self._reply_bytes = metrics.relayed_bytes.labels("reply")

    async def __call__(self, client: ClientCall) -> None:
        """Serve one request."""
        headers, path = client.head.headers, client.raw_path
        try:
            identified = self._identify(headers, client.address)
            target = upstream_target(client.head.target, base_path=self._address.base_path)
            head = request_head(headers, authority=self._address.authority, drop=IDENTITY_HEADERS)
            if client.method == "DELETE" and self._dialects.find("POST", path):
                _require_no_body(head)
            if client.switch is not None:
                head = upgrade_request(client.method, headers, head)
        except RefusedRequestError as refused:
            self._fail(client, refused.status, refused.code, str(refused), closing=True)
            return
        except AmbiguousIdentityError as refused:
            self._fail(client, 400, "ambiguous_identity", str(refused), closing=True)
            return
        if identified.rejected:
            self._metrics.identity_rejected.labels(identified.rejected).inc()
        if self._gate is not None and await self._is_held_up(self._gate, client, identified.caller):
            return
        await self._pass(client, target, head, identified.caller)

    async def _is_held_up(self, gate: Gate, client: ClientCall, caller: Caller) -> bool:
        """Refuse a chat whose person must choose first, and say so. What would not be captured is not concerned."""
        is_chat = (
            self._frames.claims(client.raw_path)
            if client.switch is not None
            else self._dialects.find(client.method, client.raw_path) is not None
        )
        refusal = await gate.refusal(caller) if is_chat else None
        if refusal is not None:
            self._fail(client, 403, CHOICE_REQUIRED, refusal)
        return refusal is not None

    async def _pass(self, client: ClientCall, target: bytes, head: RequestHead, caller: Caller) -> None:
        """Forward a request that may pass, and relay the answer."""
        method, path = client.method, client.raw_path
        handover = partial(self._tunnel, client, client.switch, caller) if client.switch else None
        dialect = None if handover else self._dialects.find(method, path)
        received_at = self._clock()
        opened: Recorder | Reason | None = None
        if dialect is not None:
            opened = self._begin_copy(client, dialect.name, caller, received_at=received_at)
            if opened is None and self._refuse_uncaptured:
                message = "the conversation cannot be kept at the moment; try again later"
                self._fail(client, 503, "capture_unavailable", message)
                return
        elif self._dialects.looks_like_chat(method, path):
            self._uncaptured()
        recorder = opened if isinstance(opened, Recorder) else None
        self._metrics.requests.labels("captured" if recorder else "passed").inc()

        relay = _Relay(
            self._upstream, client, recorder, handover=handover, hold_until_safe=self._hold_until_safe
        )
        try:
            if dialect is not None:
                try:
                    relay.announcement = self._announcer.begin(caller, opened, received_at=received_at)
                except Exception as error:  # noqa: BLE001 - it is advice, for which no chat fails
                    _log.error("what is decided of a chat cannot be announced", failure=error)
            await self._carry(relay, client, target, head)
        finally:
            relay.close()
            self._request_bytes.inc(relay.request_bytes)
            self._reply_bytes.inc(relay.reply_bytes)

    async def _carry(self, relay: "_Relay", client: ClientCall, target: bytes, head: RequestHead) -> None:
        """Have both directions relayed, and answer where the upstream does not."""
        try:
            await relay.run(target, head.headers, length=head.length)
        except UpstreamError as error:
            relay.note_failure()
            if relay.client_is_gone:
                pass
            elif relay.has_answered:
                _log.warning("upstream answer cut short", kind=type(error).__name__)
            else:
                _log.warning("upstream gave no answer", kind=type(error).__name__, what=str(error))
                status, code, message = _blame(error)
                self._fail(client, status, code, message)
        except _UnsafeError:
            self._metrics.failures.labels("capture_unsafe").inc()
            _log.error("answer cut short: its copy could not be made safe; see /readyz")
        except RefusedRequestError as refused:
            relay.note_failure()
            self._fail(client, refused.status, refused.code, str(refused), closing=True)
        except asyncio.CancelledError:
            relay.close()
            if not relay.has_answered and not relay.client_is_gone:
                message = "chatproxy is stopping and did not wait for the answer; try again"
                self._fail(client, 503, "stopping", message, closing=True)
            raise

    def _begin_copy(
        self, client: ClientCall, dialect: str, caller: Caller, *, received_at: int
    ) -> Recorder | Reason | None:
        """As ``Capture.begin``, with what the request's headers say."""
        said = _by_name(client.head.headers)
        return self._capture.begin(
            caller,
            dialect=dialect,
            request_encoding=said.get(b"content-encoding", b"").decode("latin-1"),
            received_at=received_at,
            request_key=said.get(b"idempotency-key", b""),
            conversation=self._named_conversation(said),
        )

    def _tunnel(
        self, client: ClientCall, switch: Switch, caller: Caller, call: UpstreamCall, head: ResponseHead
    ) -> Coroutine[None, None, None]:
        """See _Handover."""
        headers = upgrade_response(client.head.headers, head)
        tunnel = Tunnel(call, self._tunnel_limits, sent=self._request_bytes, returned=self._reply_bytes)
        conversation = self._named_conversation(_by_name(client.head.headers))
        copy = self._frames.begin(caller, client.raw_path, agreed_extensions(head), conversation=conversation)
        answer = b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n\r\n" % b"\r\n".join(map(b": ".join, headers))
        return tunnel.run(switch, answer, copy)

    def _named_conversation(self, said: Mapping[bytes, bytes]) -> str | None:
        """Return what the client names the conversation, as ``Exchange`` has it."""
        for name in self._conversation_headers:
            if value := said.get(name):
                named = f"{name.decode()}\0{value.decode('latin-1')}"
                return named if len(value) <= _LONGEST_CONVERSATION else None
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

    def _fail(
        self, client: ClientCall, status: int, code: str, message: str, *, closing: bool = False
    ) -> None:
        """Answer with an error of our own, in the dialect of the path, with a request id.

        ``closing``: what follows on the connection cannot be trusted to be another request (security D1).
        """
        given = _REQUEST_ID.fullmatch(_by_name(client.head.headers).get(b"x-request-id", b""))
        request_id = given[0].decode() if given else self._new_request_id()
        self._metrics.failures.labels(code).inc()
        _log.warning(
            "request answered with an error of chatproxy", status=status, code=code, request_id=request_id
        )
        failure = Failure(status, code, message, request_id)
        body = self._dialects.render_failure(client.method, client.raw_path, failure)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
        ]
        if status == UPGRADE_REQUIRED:
            headers += VERSION_HEADERS
        if closing:
            client.keeps_alive = False
        client.begin(status, headers, length=len(body))
        client.write((body,), more_body=False)


class _UnsafeError(Exception):
    """The copy of an answer does not survive a crash, so its end is not passed on."""


class _Relay:
    """One exchange under way: two directions, one end. It is told the upstream's answer (``Answered``)."""

    def __init__(
        self,
        upstream: Upstream,
        client: ClientCall,
        recorder: Recorder | None,
        *,
        handover: _Handover | None,
        hold_until_safe: bool,
    ) -> None:
        """``handover`` is for a request that asks for a WebSocket."""
        self._upstream = upstream
        self._client = client
        self._recorder = recorder
        self.announcement: Announcement | None = None
        """What is said of the decision with the head of the answer."""
        self._handover = handover
        self._switched: ResponseHead | None = None
        self._holds_end = hold_until_safe and recorder is not None
        self._last: Sequence[bytes] = ()
        """The piece that waits until the copy is safe."""
        self._call: UpstreamCall | None = None
        self._watch: asyncio.Task[None] | None = None
        # Until something else is known: what ends this exchange is chatproxy itself stopping.
        self._end = StreamEnd.INTERRUPTED
        self.client_is_gone = False
        self.has_answered = False
        self.request_bytes = 0
        self.reply_bytes = 0

    async def run(self, target: bytes, headers: list[Header], *, length: int | None) -> None:
        """Forward the request and relay the answer. Raises UpstreamError, _UnsafeError."""
        body, more_body = b"", False
        if length != 0:
            heard = await self._client.read()
            if heard is None:
                self._client_left()
                return
            body, more_body = heard
            self._remember_request(body, more_body=more_body)
        call = await self._upstream.start(
            self._client.head.method,
            target,
            headers,
            self,
            length=length,
            body=body,
            more_body=more_body,
            may_switch=self._handover is not None,
        )
        self._call = call
        self._client.draw_from(call)
        if more_body or self._handover is not None:
            self._watch = asyncio.get_running_loop().create_task(
                self._watch_client(call, more_body=more_body)
            )
        else:
            self._client.tell_when_gone(self._give_up)
            # While the backend works: with the head of its answer, what is found now is there.
            self._announced()
        await call.whole()
        if self._switched is not None and self._handover is not None:
            tunnel = self._handover(call, self._switched)
            self.has_answered = True
            if self._watch is not None:
                self._watch.cancel()
            await tunnel
            self._end = StreamEnd.COMPLETE
        elif self._holds_end and self._end is StreamEnd.COMPLETE:
            await self._make_safe()
            self._client.write(self._last, more_body=False)

    def begun(self, head: ResponseHead) -> None:
        """See Answered."""
        if self._handover is not None and head.status == SWITCHING_PROTOCOLS:
            self._switched = head
            return
        recorder = self._recorder
        if recorder is not None:
            recorder.head(
                head.status, head.content_type.decode("latin-1"), head.content_encoding.decode("latin-1")
            )
        self.has_answered = True
        self._client.begin(head.status, [*head.headers, *self._announced()], length=head.length)

    def body(self, pieces: Sequence[bytes], *, more_body: bool) -> None:
        """See Answered."""
        if self._switched is not None:
            return
        passing = pieces
        if self._holds_end and not more_body:
            passing, self._last = pieces[:-1], pieces[-1:]
        self._client.write(passing, more_body=more_body or self._holds_end)
        size = sum(map(len, pieces))
        self.reply_bytes += size
        if self._recorder is not None and size:
            self._recorder.reply(pieces, size)
        if not more_body:
            self._end = StreamEnd.COMPLETE

    def _announced(self) -> Sequence[Header]:
        """Return what is said of the decision now."""
        if self.announcement is None:
            return ()
        try:
            return self.announcement.headers()
        except Exception as error:  # noqa: BLE001 - it is advice, for which no chat fails
            _log.error("what is decided of a chat cannot be announced", failure=error)
            return ()

    async def _make_safe(self) -> None:
        """Finish the copy, and wait until it survives a crash. Raises _UnsafeError."""
        recorder = self._recorder
        self.close()
        if recorder is not None and not await recorder.is_safe():
            self._end = StreamEnd.ERROR
            raise _UnsafeError

    async def _watch_client(self, call: UpstreamCall, *, more_body: bool) -> None:
        """Pass on the rest of the request's body, then notice when the client leaves."""
        upstream_wants_more = True
        try:
            while (heard := await self._client.read()) is not None:
                if more_body:
                    piece, more_body = heard
                    self._remember_request(piece, more_body=more_body)
                    if upstream_wants_more:
                        call.write(piece, more_body=more_body)
                        upstream_wants_more = await call.drain()
        except Exception as error:  # noqa: BLE001 - the upstream would wait for the rest for ever, and we for it
            _log.error("a request cannot be passed on to its end", failure=error)
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
        # It holds this object: without this, each exchange would wait for the collector.
        call, self._call = self._call, None
        if self._end is not StreamEnd.COMPLETE:
            if call is not None:
                call.abort()
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


def _by_name(headers: Sequence[Header]) -> dict[bytes, bytes]:
    """Return the first value of each header; names in lower case."""
    return dict(reversed(headers))
