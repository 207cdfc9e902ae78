"""A company's consent service made of a list: it says, signed, what it holds of a person, or what a fault makes of it."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chatproxy.consent.answer import sign
from simulators.backend import Peer

SECRET = "correct-horse-battery"
CHOSEN_AT = "2026-01-02T03:04:05Z"

Fault = Callable[["Desk", Peer, dict[str, Any]], Awaitable[None]]


def a_choice(ident: str = "c-1", state: str = "given", at: str = CHOSEN_AT, **more: Any) -> dict[str, Any]:
    """A choice as the service states it: for everything, everywhere, unless it says otherwise."""
    return {
        "id": ident, "state": state, "at": at,
        "purposes": ["train.capability", "train.safety"], "surfaces": ["chat", "code"],
    } | more  # fmt: skip


@dataclass
class Desk:
    """What the service holds, the same of everybody, and whom it was asked about."""

    choices: list[dict[str, Any]] = field(default_factory=list)
    fault: Fault | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list, repr=False)

    async def script(self, peer: Peer) -> None:
        """Answer on one connection, question after question."""
        while True:
            request = await peer.read_request()
            head, _, body = request.partition(b"\r\n\r\n")
            asked = json.loads(body)
            self.asked.append(asked)
            self.heads.append(head)
            if self.fault is not None:
                await self.fault(self, peer, asked)
            else:
                await peer.send(self.answer(asked))

    def answer(self, asked: dict[str, Any], **changes: Any) -> bytes:
        """The answer to a question; *changes* are made before it is signed."""
        said = {"tenant": asked["tenant"], "subject": asked["subject"], "choices": self.choices} | changes
        return signed(json.dumps(said).encode(), asked["nonce"])


def signed(body: bytes, nonce: str, *, secret: str = SECRET) -> bytes:
    """An HTTP answer with a body that is signed for *nonce*."""
    return b"\r\n".join((
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"X-Consent-Signature: " + sign(body, nonce=nonce, secret=secret).encode(),
        b"", body,
    ))  # fmt: skip


async def refuse_service(_: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}")


async def hang(_: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.until_gone()


async def stop_inside(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked)[:-20])
    peer.close()


async def hang_up(_: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    peer.close()


async def talk_nonsense(_: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(b"\x00\xff" * 100 + b"\r\n\r\n")
    peer.close()


async def say_no_json(_: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(signed(b'{"tenant": "default", ', asked["nonce"]))


async def redirect(_: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")


async def say_too_much(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked, more="x" * (300 << 10)))


async def compress(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked).replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1))


async def not_sign(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked).replace(b"X-Consent-Signature", b"X-Other"))


async def sign_wrongly(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    body = desk.answer(asked).partition(b"\r\n\r\n")[2]
    await peer.send(signed(body, asked["nonce"], secret="another-secret-than-that"))


async def replay(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked | {"nonce": "0" * 32}))


async def mean_another(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked, subject="bea"))


async def mean_another_tenant(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked, tenant="other"))


async def say_an_unknown_word(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked, choices=[a_choice(state="assumed")]))


async def shuffle(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    later = a_choice("c-2", at="2026-02-01T00:00:00Z")
    await peer.send(desk.answer(asked, choices=[later, a_choice()]))


async def foretell(desk: Desk, peer: Peer, asked: dict[str, Any]) -> None:
    await peer.send(desk.answer(asked, choices=[a_choice(at="2999-01-01T00:00:00Z")]))


FAULTS: tuple[Fault, ...] = (
    refuse_service, hang, stop_inside, hang_up, talk_nonsense, say_no_json, redirect, say_too_much, compress,
    not_sign, sign_wrongly, replay, mean_another, mean_another_tenant, say_an_unknown_word, shuffle, foretell,
)  # fmt: skip
