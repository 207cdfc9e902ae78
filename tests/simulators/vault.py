"""A vault that "wraps" by writing plaintext and associated data down, and that can be sealed, or lie."""

import base64
import json
from collections.abc import Callable
from typing import Any

from simulators.backend import Peer

NAME = "chatproxy"


class SimulatedVault:
    """The transit engine with one key, as far as chatproxy uses it."""

    def __init__(self, **changes: Any) -> None:
        self.key: dict[str, Any] | None = {
            "type": "aes256-gcm96",
            "latest_version": 1,
            "min_decryption_version": 1,
            "min_available_version": 0,
            "keys": {"1": 1_790_000_000},
        } | changes
        self.is_sealed = False
        self.wraps_nothing = False
        self.asked: list[tuple[str, Any]] = []
        """Paths below the mount, and bodies."""
        self.opens_to: Callable[[bytes], bytes] = lambda plaintext: plaintext

    def changes(self) -> list[tuple[str, Any]]:
        """Return the changes of the key that it was asked for."""
        return [(path.rpartition("/")[2], body) for path, body in self.asked if path.count("/") == 2]

    def answer(self, method: str, path: str, content: bytes) -> tuple[int, object]:
        """Return status and body."""
        path = path.removeprefix("/v1/transit/")
        body = json.loads(content) if content else None
        self.asked.append((path, body))
        if self.is_sealed or (self.wraps_nothing and path.startswith("encrypt/")):
            return 503, {"errors": ["Vault is sealed"]}
        match method, path.split("/"):
            case "POST", ["keys", _] if self.key is None:
                self.key = SimulatedVault().key
            case _ if self.key is None:
                return 404, {"errors": []}
            case "POST", ["keys", _, "rotate"]:
                self.key["latest_version"] += 1
            case "POST", ["keys", _, _]:
                self.key |= body or {}
            case "POST", ["encrypt", _]:
                return self._results(body, self._encrypt)
            case "POST", ["decrypt", _]:
                return self._results(body, self._decrypt)
        return 200, {"data": self.key}

    async def serve(self, peer: Peer) -> None:
        """Answer one connection: a script for ``simulators.backend``."""
        while request := await peer.read_request():
            head, _, content = request.partition(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            status, answer = self.answer(method, path, content)
            body = json.dumps(answer).encode()
            await peer.send(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

    def _results(self, body: Any, work: Callable[[Any], dict[str, str]]) -> tuple[int, object]:
        results = [work(item) for item in body["batch_input"]]
        return 400 if any("error" in result for result in results) else 200, {
            "data": {"batch_results": results}
        }

    def _encrypt(self, item: Any) -> dict[str, str]:
        assert self.key is not None
        written = json.dumps([item["plaintext"], item["associated_data"]]).encode()
        return {"ciphertext": f"vault:v{self.key['latest_version']}:{base64.b64encode(written).decode()}"}

    def _decrypt(self, item: Any) -> dict[str, str]:
        assert self.key is not None
        _, version, written = item["ciphertext"].split(":")
        plaintext, bound = json.loads(base64.b64decode(written))
        if int(version[1:]) < self.key["min_decryption_version"]:
            return {"error": "ciphertext or signature version is disallowed by policy (too old)"}
        if bound != item["associated_data"]:
            return {"error": "cipher: message authentication failed"}
        return {"plaintext": base64.b64encode(self.opens_to(base64.b64decode(plaintext))).decode()}
