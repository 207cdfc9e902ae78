"""The formats of docs/record-format.md written a second time, from the text, sharing nothing with chatproxy.

HKDF is stdlib ``hmac``; GCM is counter mode and GHASH in plain Python over the bare AES block. Slow and without
checks: it makes what ought to be refused as readily as what ought to open.
"""

import base64
import hashlib
import hmac
import json
import struct
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

DAY_MS = 86_400_000
_REDUCTION = 0xE1 << 120


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def lp(value: bytes) -> bytes:
    return u32(len(value)) + value


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    extracted = mac(salt or bytes(32), secret)
    out, block = b"", b""
    for counter in range(1, -(-size // 32) + 1):
        block = mac(extracted, block + info + bytes([counter]))
        out += block
    return out[:size]


def aes(key: bytes, blocks: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)  # noqa: S305


def _multiply(left: int, right: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = (right >> 1) ^ (_REDUCTION if right & 1 else 0)
    return product


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))


def gcm(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    counters = b"".join(nonce + u32(2 + index) for index in range(-(-len(plaintext) // 16)))
    ciphertext = _xor(plaintext, aes(key, counters)) if plaintext else b""
    hash_key = int.from_bytes(aes(key, bytes(16)), "big")
    hashed = aad + bytes(-len(aad) % 16) + ciphertext + bytes(-len(ciphertext) % 16)
    hashed += struct.pack(">QQ", len(aad) * 8, len(ciphertext) * 8)
    state = 0
    for start in range(0, len(hashed), 16):
        state = _multiply(state ^ int.from_bytes(hashed[start : start + 16], "big"), hash_key)
    return ciphertext + _xor(state.to_bytes(16, "big"), aes(key, nonce + u32(1)))


def padme(size: int) -> int:
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - (exponent.bit_length())
    return -(-size // (1 << low_bits)) * (1 << low_bits) if low_bits > 0 else size


def padded(payload: bytes) -> bytes:
    framed = lp(payload)
    return framed + bytes(padme(len(framed)) - len(framed))


def record(
    *,
    subject_key: bytes,
    epoch_key: bytes,
    subject: bytes,
    metadata: bytes,
    plaintext: bytes,
    turn: bytes,
    seed: bytes,
    expires_at: int,
    flags: int = 0,
    grounds: int = 1,
    generation: int = 1,
    epoch: int | None = None,
    series: int = 0,
    version: int = 1,
    suite: int = 1,
    magic: bytes = b"CP",
) -> bytes:
    """Seal *plaintext* as it is: the caller pads, or pads wrongly."""
    day = expires_at // DAY_MS if epoch is None else epoch
    day += series * 2**20
    head = magic + bytes([version, suite, flags, grounds])
    head += struct.pack(">HIQ", generation, day, expires_at) + turn + seed
    context = lp(head) + lp(subject) + lp(metadata)
    info = b"chatproxy/record/v1" + hashlib.sha256(b"chatproxy/record/v1\0" + context).digest()
    out = hkdf(subject_key + epoch_key, seed, info, 76)
    public = head + out[44:76]
    return public + gcm(out[:32], out[32:44], plaintext, public + lp(subject) + lp(metadata))


def wrap(
    kek: bytes, kek_version: int, purpose: int, ident: bytes, key: bytes, nonce: bytes, version: int = 1
) -> bytes:
    head = struct.pack(">BBH", version, purpose, kek_version)
    return head + nonce + gcm(kek, nonce, key, b"chatproxy/wrap/v1" + head + lp(ident))


def root_wrap(
    root: bytes,
    root_version: int,
    purpose: bytes,
    ident: bytes,
    secret: bytes,
    nonce: bytes,
    version: int = 1,
) -> bytes:
    head = struct.pack(">BH", version, root_version)
    return head + nonce + gcm(root, nonce, secret, b"chatproxy/root/v1" + head + lp(purpose) + lp(ident))


def annotation_mac(key: bytes, values: Sequence[bytes]) -> bytes:
    """*values*: subject, turn, kv, seq, exp, meta, body, prev."""
    message = b"chatproxy/ann/v1"
    for number, value in enumerate(values, start=1):
        message += bytes([number]) + lp(value)
    return mac(key, message)


def event_mac(key: bytes, version: bytes, subject: bytes, event: bytes) -> bytes:
    return mac(key, b"chatproxy/consent-event/v1" + lp(version) + lp(subject) + lp(event))


def subject_tag(key: bytes, tenant: str, subject: str) -> bytes:
    return mac(key, lp(tenant.encode()) + lp(subject.encode()))[:16]


def pseudonym_subkey(key: bytes, use: bytes) -> bytes:
    return hkdf(key, b"", b"chatproxy/pseudonym/v1/" + use, 32)


def conversation_tag(key: bytes, tenant: str, subject: str, conversation: str) -> bytes:
    names = lp(tenant.encode()) + lp(subject.encode()) + lp(conversation.encode())
    return mac(pseudonym_subkey(key, b"conversation"), names)[:16]


def message_hash(key: bytes, subject: bytes, message: bytes) -> bytes:
    return mac(mac(pseudonym_subkey(key, b"history"), subject), message)[:16]


def handle(key: bytes, use: bytes, prefix: str, subject: bytes, ident: bytes) -> str:
    block = aes(pseudonym_subkey(key, use), _xor(subject, ident))
    return prefix + base64.urlsafe_b64encode(block + ident).decode().rstrip("=")


def check_value(pseudonym_key: bytes, keyset_id: str) -> str:
    label = "chatproxy/keyset-check/v1"
    return f"{label} {keyset_id} {hkdf(pseudonym_key, b'', (label + keyset_id).encode(), 16).hex()}"


def root_check(root: bytes) -> str:
    return hkdf(root, b"", b"chatproxy/root-check/v1", 8).hex()


def keyset_file(keyset: Any, *, name: str = "chatproxy/keyset/v1", checksum: str | None = None) -> str:
    body = json.dumps(keyset, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(body.encode()).hexdigest() if checksum is None else checksum
    return f'{{"format":{json.dumps(name)},"keyset":{body},"checksum":{json.dumps(digest)}}}\n'


def sealed_keyset(
    keyset: Any,
    secrets: Sequence[bytes],
    *,
    name: str = "chatproxy/sealed-keyset/v1",
    size: int = 32,
    body: str | None = None,
) -> str:
    text = json.dumps(keyset, sort_keys=True, separators=(",", ":")) if body is None else body
    key = hkdf(secrets[0], b"", b"chatproxy/sealed-keyset-mac/v1", size)
    signature = base64.b64encode(mac(key, lp(text.encode()) + b"".join(map(lp, secrets)))).decode()
    return f'{{"format":{json.dumps(name)},"keyset":{text},"mac":{json.dumps(signature)}}}'


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def public_key(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def key_id(public: bytes) -> str:
    """The thumbprint of RFC 7638."""
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url(public)}"}}'
    return base64url(hashlib.sha256(jwk.encode()).digest())


def signature_of(document: Any, seed: bytes, **changed: Any) -> dict[str, Any]:
    message = str(document["format"]).encode() + b"\n" + canonical(document)
    signed = Ed25519PrivateKey.from_private_bytes(seed).sign(message)
    return {"alg": "EdDSA", "kid": key_id(public_key(seed)), "value": base64url(signed), **changed}


def ring(body: Any, mac_key: bytes, *, name: str = "chatproxy/ring/v1") -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    signature = base64.b64encode(mac(mac_key, b"chatproxy/ring/v1\0" + text.encode())).decode()
    return f'{{"format":{json.dumps(name)},"mac":{json.dumps(signature)},"ring":{text}}}'
