"""Writes the files of this directory: ``python tests/vectors/testkit/make.py``. Made once; a test compares.

Every case is complete in itself (keys, names, bytes, hex but for JSON texts) and says what must come of it:
``opens``, or the reason code, or for keysets and rings a piece of the message. Signed statements have ``blanks`` more at
their end.
"""

import base64
import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from vectors.testkit import independent as second

HERE = Path(__file__).parent
EXPIRES_AT = 1_795_342_723_456
Case = dict[str, Any]


def drawn(name: str, size: int = 32) -> bytes:
    """Bytes that look random and are the same on every run."""
    return hashlib.shake_256(b"chatproxy testkit " + name.encode()).digest(size)


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def records() -> Iterator[Case]:  # noqa: PLR0915 - a table
    names: dict[str, Any] = {
        "subject_key": drawn("subject key"),
        "epoch_key": drawn("epoch key"),
        "subject": drawn("subject", 16),
        "metadata": b'{"conversation":"c","model":"m"}',
    }
    rest: dict[str, Any] = {"turn": drawn("turn", 16), "seed": drawn("seed", 24), "expires_at": EXPIRES_AT}
    payload = b'{"messages":[]}'

    def case(name: str, blob: bytes, expect: str, opens_to: bytes | None = None, **changed: bytes) -> Case:
        found = {key: value.hex() for key, value in (names | changed).items()}
        shown = {} if opens_to is None else {"payload": opens_to.hex()}
        return {"name": name, **found, "blob": blob.hex(), "expect": expect, **shown}

    def sealed(plaintext: bytes = payload, **fields: Any) -> bytes:
        return second.record(**(names | rest | fields), plaintext=plaintext)

    good = sealed()
    yield case("whole", good, "opens", payload)
    yield case("empty", sealed(b""), "opens", b"")
    yield case("no metadata", sealed(metadata=b""), "opens", payload, metadata=b"")
    yield case(
        "all flags and grounds", sealed(second.padded(payload), flags=15, grounds=63), "opens", payload
    )
    yield case("padded, empty", sealed(second.padded(b""), flags=2), "opens", b"")
    yield case("padding that no flag announces is payload", sealed(b"\0\0\0\0"), "opens", b"\0\0\0\0")
    yield case("highest generation", sealed(generation=65_535), "opens", payload)
    yield case("another series of day keys", sealed(series=1), "opens", payload)
    yield case("highest series of day keys", sealed(series=4095), "opens", payload)
    yield case("first millisecond of a day", sealed(expires_at=20_780 * second.DAY_MS), "opens", payload)
    yield case("last millisecond of a day", sealed(expires_at=20_780 * second.DAY_MS - 1), "opens", payload)

    yield case("nothing", b"", "record_length")
    yield case("header only", good[:60], "record_length")
    yield case("one byte less than an empty record", good[:107], "record_length")
    yield case("last byte cut off", good[:-1], "record_tag")
    yield case("one byte more", good + b"\0", "record_tag")
    yield case("twice", good + good, "record_tag")
    yield case("tag zeroed", good[:-16] + bytes(16), "record_tag")
    yield case("ciphertext altered", flipped(good, 92), "record_tag")
    yield case("tag altered", flipped(good, len(good) - 1, 7), "record_tag")
    yield case("commitment altered", flipped(good, 60), "record_commitment")
    yield case("seed altered", flipped(good, 36), "record_commitment")
    yield case("turn altered", flipped(good, 20), "record_commitment")
    yield case("expiry altered within its day", flipped(good, 19), "record_commitment")
    yield case("expiry altered beyond its day", flipped(good, 15, 7), "record_epoch")
    yield case("epoch altered", flipped(good, 11), "record_epoch")
    yield case("series of day keys altered", flipped(good, 9, 4), "record_commitment")
    yield case("generation altered", flipped(good, 7), "record_commitment")
    yield case("ground added", flipped(good, 5, 1), "record_commitment")
    yield case("flag added", flipped(good, 4, 2), "record_commitment")
    yield case("magic altered", flipped(good, 0), "record_magic")
    yield case("version altered", flipped(good, 2, 1), "record_version")
    yield case("suite altered", flipped(good, 3, 1), "record_suite")

    yield case("sealed with another magic", sealed(magic=b"PC"), "record_magic")
    for version in (0, 2, 255):
        yield case(f"sealed as version {version}", sealed(version=version), "record_version")
    for suite in (0, 2):
        yield case(f"sealed as suite {suite}", sealed(suite=suite), "record_suite")
    for bit in (4, 5, 6, 7):
        yield case(f"sealed with flag {bit}", sealed(flags=1 << bit), "record_flags")
    yield case("sealed without a ground", sealed(grounds=0), "record_grounds")
    for bit in (6, 7):
        yield case(f"sealed with ground {bit}", sealed(grounds=1 | 1 << bit), "record_grounds")
    day = EXPIRES_AT // second.DAY_MS
    yield case("sealed for the day after", sealed(epoch=day + 1), "record_epoch")
    yield case("sealed for another day of another series", sealed(epoch=day + 1, series=1), "record_epoch")
    yield case("sealed for the day before", sealed(epoch=day - 1), "record_epoch")

    for name, plaintext in {
        "nothing to unpad": b"",
        "length cut short": b"\0\0\0",
        "length beyond the end": second.u32(13) + bytes(12),
        "length far beyond the end": b"\xff\xff\xff\xff" + bytes(12),
        "no padding where there must be some": second.lp(b"x" * 997),
        "padding of one byte too many": second.padded(b"x" * 997) + b"\0",
        "padding to the size after next": second.padded(b"x" * 997) + bytes(32),
        "last byte of the padding not zero": second.padded(b"x" * 997)[:-1] + b"\1",
        "first byte of the padding not zero": second.lp(b"x" * 997) + b"\1" + bytes(22),
    }.items():
        yield case(name, sealed(plaintext, flags=2), "record_padding")

    swapped = {"subject_key": names["epoch_key"], "epoch_key": names["subject_key"]}
    yield case("another subject key", good, "record_commitment", subject_key=drawn("other"))
    yield case("another epoch key", good, "record_commitment", epoch_key=drawn("other"))
    yield case("keys exchanged", good, "record_commitment", **swapped)
    yield case("another subject", good, "record_commitment", subject=drawn("other", 16))
    yield case("other metadata", good, "record_commitment", metadata=names["metadata"] + b" ")
    yield case("metadata left out", good, "record_commitment", metadata=b"")
    moved = {"subject": names["subject"] + b"{", "metadata": names["metadata"][1:]}
    yield case("a byte moved from metadata to subject", good, "record_commitment", **moved)


def wraps() -> Iterator[Case]:
    kek, key, nonce = drawn("kek"), drawn("data key"), drawn("wrap nonce", 12)
    ident = drawn("subject", 16) + b"\0\1"

    def case(name: str, wrapped: bytes, expect: str, **changed: Any) -> Case:
        found: Case = {"kek": kek.hex(), "purpose": 1, "ident": ident.hex()} | changed
        return {"name": name, **found, "wrapped": wrapped.hex(), "expect": expect, "key": key.hex()}

    good = second.wrap(kek, 7, 1, ident, key, nonce)
    yield case("whole", good, "opens")
    for purpose in (2, 3, 4):
        yield case(
            f"purpose {purpose}", second.wrap(kek, 7, purpose, ident, key, nonce), "opens", purpose=purpose
        )
    yield case("highest KEK version", second.wrap(kek, 65_535, 1, ident, key, nonce), "opens")
    yield case("nothing", b"", "wrap_length")
    yield case("one byte short", good[:-1], "wrap_length")
    yield case("one byte more", good + b"\0", "wrap_length")
    yield case("format 0", second.wrap(kek, 7, 1, ident, key, nonce, version=0), "wrap_version")
    yield case("format 2", second.wrap(kek, 7, 1, ident, key, nonce, version=2), "wrap_version")
    yield case("made as an epoch key", second.wrap(kek, 7, 2, ident, key, nonce), "wrap_purpose")
    yield case("purpose 0", second.wrap(kek, 7, 0, ident, key, nonce), "wrap_purpose")
    yield case("purpose rewritten", flipped(second.wrap(kek, 7, 3, ident, key, nonce), 1, 1), "wrap_tag")
    yield case("KEK version altered", flipped(good, 3), "wrap_tag")
    yield case("nonce altered", flipped(good, 4), "wrap_tag")
    yield case("ciphertext altered", flipped(good, 16), "wrap_tag")
    yield case("tag altered", flipped(good, 63, 7), "wrap_tag")
    yield case("another KEK", good, "wrap_tag", kek=drawn("other").hex())
    yield case("another ident", good, "wrap_tag", ident=(drawn("other", 16) + b"\0\1").hex())
    yield case("another generation", good, "wrap_tag", ident=(ident[:16] + b"\0\2").hex())


def root_wraps() -> Iterator[Case]:
    root, secret, nonce = drawn("root"), drawn("kek"), drawn("root nonce", 12)

    def case(name: str, wrapped: bytes, expect: str, **changed: Any) -> Case:
        found: Case = {
            "root": root.hex(),
            "purpose": "ring",
            "ident": b"kek/1".hex(),
        } | changed
        found["check"] = second.root_check(bytes.fromhex(found["root"]))
        return {"name": name, **found, "wrapped": wrapped.hex(), "expect": expect, "secret": secret.hex()}

    good = second.root_wrap(root, 3, b"ring", b"kek/1", secret, nonce)
    yield case("whole", good, "opens")
    yield case("nothing", b"", "root_wrap_length")
    yield case("one byte short", good[:-1], "root_wrap_length")
    yield case("one byte more", good + b"\0", "root_wrap_length")
    other = second.root_wrap(root, 3, b"ring", b"kek/1", secret, nonce, version=2)
    yield case("format 2", other, "root_wrap_version")
    yield case("root version altered", flipped(good, 2), "root_wrap_tag")
    yield case("nonce altered", flipped(good, 3), "root_wrap_tag")
    yield case("ciphertext altered", flipped(good, 15), "root_wrap_tag")
    yield case("tag altered", flipped(good, 62, 7), "root_wrap_tag")
    yield case("another root", good, "root_wrap_tag", root=drawn("other").hex())
    yield case("another ident", good, "root_wrap_tag", ident=b"kek/2".hex())
    yield case("another purpose", good, "root_wrap_tag", purpose="pseudonyms")
    moved = {"purpose": "ringk", "ident": b"ek/1".hex()}
    yield case("a byte moved from ident to purpose", good, "root_wrap_tag", **moved)


def annotations() -> Iterator[Case]:
    keys = {"1": drawn("annotation 1").hex(), "2": drawn("annotation 2").hex()}
    subject, turn = drawn("subject", 16), drawn("turn", 16)
    good = {
        "kv": b"2",
        "seq": b"5",
        "exp": b"%d" % EXPIRES_AT,
        "meta": b'{"conversation":"c"}',
        "body": b'{"eligible":false}',
        "prev": drawn("previous mac"),
    }

    def signed(fields: dict[str, bytes], version: str = "2") -> dict[str, bytes]:
        key = bytes.fromhex(keys[version])
        return fields | {"mac": second.annotation_mac(key, [subject, turn, *fields.values()])}

    def case(name: str, fields: dict[str, bytes], expect: str, **changed: Any) -> Case:
        found: Case = {"keys": keys, "subject": subject.hex(), "turn": turn.hex()} | changed
        shown = {field: value.hex() for field, value in fields.items()}
        return {"name": name, **found, "fields": shown, "expect": expect}

    whole = signed(good)
    yield case("whole", whole, "opens")
    yield case("under an older key", signed(good | {"kv": b"1"}, "1"), "opens")
    yield case("first of its turn", signed(good | {"seq": b"1", "prev": b""}), "opens")
    yield case("zero", signed(good | {"exp": b"0"}), "opens")
    for field in whole:
        yield case(f"without {field}", {k: v for k, v in whole.items() if k != field}, "annotation_fields")
    yield case("a field more", whole | {"elig": b"1"}, "annotation_fields")
    yield case("no field", {}, "annotation_fields")
    for text in (b"", b"05", b"+5", b"-5", b" 5", b"5\n", b"5.0", b"five", b"9" * 20, "\u0665".encode()):
        yield case(f"seq {text!r}", signed(good | {"seq": text}), "annotation_number")
    yield case("exp is not a number", signed(good | {"exp": b"soon"}), "annotation_number")
    yield case("kv is not a number", signed(good | {"kv": b"two"}), "annotation_number")
    yield case("key version unknown", signed(good | {"kv": b"3"}), "unknown_annotation_key_version")
    yield case("key version of another key", whole | {"kv": b"1"}, "annotation_mac")
    yield case("seq altered", whole | {"seq": b"6"}, "annotation_mac")
    yield case("expiry extended", whole | {"exp": b"%d" % (EXPIRES_AT + 1)}, "annotation_mac")
    yield case("made eligible", whole | {"body": b'{"eligible":true}'}, "annotation_mac")
    yield case("metadata altered", whole | {"meta": b'{"conversation":"d"}'}, "annotation_mac")
    yield case("previous altered", whole | {"prev": bytes(32)}, "annotation_mac")
    yield case("mac altered", whole | {"mac": flipped(whole["mac"], 31)}, "annotation_mac")
    yield case("mac cut short", whole | {"mac": whole["mac"][:16]}, "annotation_mac")
    yield case("mac empty", whole | {"mac": b""}, "annotation_mac")
    exchanged = whole | {"meta": whole["body"], "body": whole["meta"]}
    yield case("meta and body exchanged", exchanged, "annotation_mac")
    moved = whole | {"meta": whole["meta"] + b"{", "body": whole["body"][1:]}
    yield case("a byte moved from body to meta", moved, "annotation_mac")
    yield case("of another subject", whole, "annotation_mac", subject=drawn("other", 16).hex())
    yield case("of another turn", whole, "annotation_mac", turn=drawn("other", 16).hex())


def _keyset() -> Any:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032, 7.1
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")

    def entry(version: int, status: str, key: bytes | None) -> Any:
        at = 1_790_000_000_000 + version
        return {"version": version, "status": status, "created_at": at, "key": key and b64(key)}

    return {
        "id": drawn("keyset id", 16).hex(),
        "created_at": 1_790_000_000_000,
        "root": [
            entry(1, "DESTROYED", None),
            entry(2, "RETIRED", drawn("root 2")),
            entry(3, "DECRYPT", drawn("root 3")),
            entry(4, "PRIMARY", drawn("root 4")),
            entry(5, "PENDING", drawn("root 5")),
        ],
        "pseudonyms": {"created_at": 1_790_000_000_000, "key": b64(drawn("pseudonyms"))},
        "annotations": [
            entry(1, "DECRYPT", drawn("annotation 1")),
            entry(2, "PRIMARY", drawn("annotation 2")),
        ],
        "signing": [entry(1, "PRIMARY", seed) | {"public": b64(public)}],
    }


def keysets() -> Iterator[Case]:  # noqa: PLR0915 - a table
    good = _keyset()

    def case(name: str, text: str, expect: str) -> Case:
        return {"name": name, "text": text, "expect": expect}

    def edited(name: str, edit: Callable[[Any], object], expect: str) -> Case:
        keyset = copy.deepcopy(good)
        edit(keyset)
        return case(name, second.keyset_file(keyset), expect)

    def with_key(key: bytes | str) -> Callable[[Any], object]:
        text = key if isinstance(key, str) else b64(key)
        return lambda keyset: keyset["root"][3].update(key=text)

    whole = second.keyset_file(good)
    yield case("whole", whole, "opens")
    yield case("without the last newline", whole.rstrip(), "opens")
    yield case("empty", "", "not a whole keyset file")
    yield case("cut in the middle", whole[: len(whole) // 2], "not a whole keyset file")
    yield case("last brace missing", whole.rstrip()[:-1], "not a whole keyset file")
    yield case("another file after it", whole + whole, "not a whole keyset file")
    yield case("not JSON", "root: 1\n", "not a whole keyset file")
    yield case("nested without end", '{"x":' + "[" * 5000, "not a whole keyset file")
    yield case("a list", "[]", "got `array`")
    yield case("without a format", "{}", "missing required field `format`")
    newer = second.keyset_file(good, name="chatproxy/keyset/v2")
    yield case("newer format", newer, "its format is 'chatproxy/keyset/v2'")
    yield case("another program's", '{"format":"x"}', "its format is 'x'")
    yield case("without a checksum", '{"format":"chatproxy/keyset/v1","keyset":{}}', "`checksum`")
    yield case("one digit of the time altered", whole.replace("1790000000000", "1790000000009"), "checksum")
    yield case("other checksum", second.keyset_file(good, checksum="0" * 64), "checksum")
    yield case("a field of the file more", whole.rstrip()[:-1] + ',"x":1}', "unknown field `x`")
    for field in sorted(good):
        yield edited(f"without {field}", lambda keyset, field=field: keyset.pop(field), f"`{field}`")  # type: ignore[misc]
    yield edited("a field more", lambda keyset: keyset.update(extra=1), "unknown field `extra`")
    for where in ("root", "annotations", "signing"):
        more = partial(_one_more, where)
        yield edited(f"a field of a key of {where} more", more, "`note`")
    yield edited("a field of pseudonyms more", lambda keyset: keyset["pseudonyms"].update(note=""), "`note`")
    yield edited("id not hex", lambda keyset: keyset.update(id="my keyset"), "`$.id`")
    yield edited("id with a newline", lambda keyset: keyset.update(id=good["id"] + "\n"), "`$.id`")
    yield edited("version 0", lambda keyset: keyset["root"][0].update(version=0), "`int` >= 1")
    yield edited("version -1", lambda keyset: keyset["root"][0].update(version=-1), "`int` >= 1")
    yield edited("version 65536", lambda keyset: keyset["root"][0].update(version=65_536), "`int` <= 65535")
    yield edited(
        "version in words", lambda keyset: keyset["root"][0].update(version="one"), "`$.root[0].version`"
    )
    yield edited("version true", lambda keyset: keyset["root"][0].update(version=True), "`$.root[0].version`")
    yield edited("time negative", lambda keyset: keyset.update(created_at=-1), "`int` >= 0")
    yield edited(
        "unknown status", lambda keyset: keyset["root"][0].update(status="ACTIVE"), "`$.root[0].status`"
    )
    yield edited(
        "version twice", lambda keyset: keyset["root"][1].update(version=1), "root has version 1 twice"
    )
    for purpose in ("root", "annotations", "signing"):
        none = f"{purpose} has 0 PRIMARY"
        yield edited(f"no {purpose}", lambda keyset, purpose=purpose: keyset.update({purpose: []}), none)  # type: ignore[misc]
        last = -2 if purpose == "root" else -1
        yield edited(
            f"{purpose} without a primary",
            lambda keyset, purpose=purpose, last=last: keyset[purpose][last].update(status="DECRYPT"),  # type: ignore[misc]
            none,
        )
    two = "has 2 PRIMARY"
    yield edited(
        "two primary roots", lambda keyset: keyset["root"][4].update(status="PRIMARY"), f"root {two}"
    )
    yield edited(
        "two primary annotation keys",
        lambda keyset: keyset["annotations"][0].update(status="PRIMARY"),
        f"annotations {two}",
    )
    yield edited(
        "destroyed with its key",
        lambda keyset: keyset["root"][0].update(key=b64(drawn("root 1"))),
        "root version 1 is DESTROYED",
    )
    yield edited(
        "retired without its key",
        lambda keyset: keyset["root"][1].update(key=None),
        "root version 2 is RETIRED",
    )
    yield edited(
        "primary without its key", lambda keyset: keyset["root"][3].update(key=None), "version 4 is PRIMARY"
    )
    yield edited("key of 31 bytes", with_key(drawn("x", 31)), "this one has 31 - at `$.root[3].key`")
    yield edited("key of 33 bytes", with_key(drawn("x", 33)), "this one has 33 - at `$.root[3].key`")
    yield edited("key empty", with_key(""), "this one has 0")
    yield edited("key not base64", with_key("not base64"), "written in base64")
    yield edited("key with a blank", with_key(b64(drawn("x")) + " "), "written in base64")
    yield edited("key not ASCII", with_key("é"), "written in base64")
    yield edited("key is a number", lambda keyset: keyset["root"][3].update(key=5), "written in base64")
    yield edited(
        "no pseudonym key", lambda keyset: keyset["pseudonyms"].update(key=None), "`$.pseudonyms.key`"
    )
    pattern = "not random"
    yield edited("key of zeros", with_key(bytes(32)), pattern)
    yield edited("key of one byte", with_key(b"\xaa" * 32), pattern)
    yield edited("key that counts", with_key(bytes(range(128, 160))), pattern)
    yield edited("key that repeats", with_key(drawn("x", 4) * 8), pattern)
    yield edited("key that is a text", with_key(b"change-me-change-me-Or+else&now!"), pattern)
    yield edited("key that is hex", with_key(drawn("x", 16).hex().encode()), pattern)
    yield edited("one key for two purposes", with_key(drawn("pseudonyms")), "one key is used twice")
    yield edited("one key for two versions", with_key(drawn("root 3")), "one key is used twice")
    yield edited(
        "public key of another seed",
        lambda keyset: keyset["signing"][0].update(public=b64(drawn("x"))),
        "signing version 1 has a public key",
    )


def _set(name: str, value: object, body: Any) -> None:
    body["keys"][3][name] = value


def rings() -> Iterator[Case]:
    mac_key = drawn("ring mac key")
    wrapped = {version: drawn(f"wrapped {version}", 63) for version in range(6)}

    def entry(version: int, status: str, **instants: int) -> Any:
        gone = status == "DESTROYED"
        wrap = None if gone else b64(wrapped[version])
        made = 1_790_000_000_000
        return {"version": version, "status": status, "created_at": made, "wrapped": wrap, **instants}

    good = {
        "counter": 9,
        "wrapped_mac_key": b64(wrapped[0]),
        "keys": [
            entry(1, "DESTROYED", changed_at=1_790_000_000_004),
            entry(2, "RETIRED", promoted_at=1_790_000_000_002, changed_at=1_790_000_000_003),
            entry(3, "DECRYPT", promoted_at=1_790_000_000_003, changed_at=1_790_000_000_005),
            entry(4, "PRIMARY", promoted_at=1_790_000_000_005, changed_at=1_790_000_000_005),
            entry(5, "PENDING"),
        ],
    }
    secrets = [mac_key.hex(), *(drawn(f"kek {version}").hex() for version in (3, 4, 5))]

    def case(name: str, text: str, expect: str) -> Case:
        return {"name": name, "text": text, "secrets": secrets, "expect": expect}

    def edited(name: str, edit: Callable[[Any], object], expect: str) -> Case:
        body = copy.deepcopy(good)
        edit(body)
        return case(name, second.ring(body, mac_key), expect)

    whole = second.ring(good, mac_key)
    yield case("whole", whole, "opens")
    yield case("empty", "", "cannot be read")
    yield case("cut in the middle", whole[: len(whole) // 2], "cannot be read")
    yield case("two", whole + whole, "cannot be read")
    yield case("nested without end", '{"ring":' + "[" * 5000, "cannot be read")
    yield case("newer format", second.ring(good, mac_key, name="chatproxy/ring/v2"), "use a newer chatproxy")
    yield case("made with another key", second.ring(good, drawn("other")), "not authentic")
    yield case("retired version brought back", whole.replace("RETIRED", "DECRYPT"), "not authentic")
    swapped = whole.replace("DECRYPT", "@").replace("PRIMARY", "DECRYPT").replace("@", "PRIMARY")
    yield case("another version made primary", swapped, "not authentic")
    yield case("counter set back", whole.replace('"counter":9', '"counter":8'), "not authentic")
    yield case("a blank more", whole.replace('"counter":9', '"counter": 9'), "not authentic")
    yield case("a field of the file more", whole[:-1] + ',"x":1}', "cannot be read")
    yield edited("no key", lambda body: body.update(keys=[]), "exactly one PRIMARY")
    yield edited(
        "two primaries", lambda body: body["keys"][2].update(status="PRIMARY"), "exactly one PRIMARY"
    )
    yield edited("no primary", lambda body: body["keys"][3].update(status="DECRYPT"), "exactly one PRIMARY")
    yield edited("version twice", lambda body: body["keys"][2].update(version=4), "one version twice")
    yield edited(
        "destroyed with its wrap", lambda body: body["keys"][0].update(wrapped=""), "a key for each version"
    )
    yield edited(
        "primary without its wrap",
        lambda body: body["keys"][3].update(wrapped=None),
        "a key for each version",
    )
    yield edited("version 0", lambda body: body["keys"][0].update(version=0), "cannot be read")
    yield edited("version 65536", lambda body: body["keys"][0].update(version=65_536), "cannot be read")
    yield edited("counter 0", lambda body: body.update(counter=0), "cannot be read")
    yield edited("unknown status", lambda body: body["keys"][0].update(status="GONE"), "cannot be read")
    for name in ("promoted_at", "changed_at"):
        for what, value in (("before 1970", -1), ("a text", "1790000000000"), ("a fraction", 1.5)):
            yield edited(f"{name} {what}", partial(_set, name, value), "cannot be read")
    yield case("promoted at another time", whole.replace("000005", "000006"), "not authentic")
    yield edited("a field of a key more", lambda body: body["keys"][3].update(retired_at=1), "cannot be read")
    yield edited("a field more", lambda body: body.update(extra=1), "cannot be read")
    yield edited("a field less", lambda body: body.pop("counter"), "cannot be read")


def pseudonyms() -> Iterator[Case]:
    key = drawn("pseudonyms")
    for name, tenant, subject, conversation in (
        ("plain", "default", "user-1", "conv-1"),
        ("empty", "", "", ""),
        ("a byte moved from subject to tenant", "defaultu", "ser-1", "conv-1"),
        ("unicode", "société", "zoë@例え.jp", "🙂"),
        ("characters of key patterns", "*", "{a}:b/*?[c]", "\n\0"),
    ):
        tag = second.subject_tag(key, tenant, subject)
        within = second.conversation_tag(key, tenant, subject, conversation)
        turn = drawn("turn " + name, 16)
        yield {
            "name": name,
            "key": key.hex(),
            "tenant": tenant,
            "subject": subject,
            "conversation": conversation,
            "turn": turn.hex(),
            "subject_tag": tag.hex(),
            "conversation_tag": within.hex(),
            "message_hash_of_hello": second.message_hash(key, tag, b"hello").hex(),
            "turn_handle": second.handle(key, b"turn handle", "t_", tag, turn),
            "conversation_handle": second.handle(key, b"conversation handle", "c_", tag, within),
        }


def sealed_keysets() -> Iterator[Case]:
    secrets = [drawn(name) for name in ("pseudonyms", "annotations 1", "annotations 2", "signing 2")]

    def entry(version: int, status: str, **more: Any) -> Any:
        return {"version": version, "status": status, "created_at": 1_790_000_000_000, **more}

    def wrapped(name: str) -> str:
        return b64(drawn("wrap of " + name, 63))

    good: dict[str, Any] = {
        "id": drawn("sealed id", 16).hex(),
        "created_at": 1_790_000_000_000,
        "pseudonyms": {"created_at": 1_790_000_000_000, "wrapped": wrapped("pseudonyms")},
        "annotations": [
            entry(1, "DECRYPT", wrapped=wrapped("annotations 1")),
            entry(2, "PRIMARY", wrapped=wrapped("annotations 2")),
        ],
        "signing": [
            entry(1, "DESTROYED", wrapped=None, public=b64(second.public_key(drawn("signing 1")))),
            entry(2, "PRIMARY", wrapped=wrapped("s 2"), public=b64(second.public_key(drawn("signing 2")))),
        ],
    }

    def case(name: str, text: str, expect: str, given: list[bytes] | None = None) -> Case:
        opened = [secret.hex() for secret in (secrets if given is None else given)]
        return {"name": name, "text": text, "secrets": opened, "expect": expect}

    def edited(name: str, edit: Callable[[Any], object], expect: str) -> Case:
        keyset = copy.deepcopy(good)
        edit(keyset)
        return case(name, second.sealed_keyset(keyset, secrets), expect)

    whole = second.sealed_keyset(good, secrets)
    unfit, unread = "its check value does not fit", "is damaged"
    yield case("whole", whole, "opens")
    yield case("empty", "", unread)
    yield case("cut in the middle", whole[: len(whole) // 2], unread)
    yield case("two", whole + whole, unread)
    yield case("nested without end", '{"format":"chatproxy/sealed-keyset/v1","keyset":' + "[" * 5000, unread)
    yield case("another program's", '{"format":"x"}', "has the format 'x'")
    yield case(
        "newer format",
        second.sealed_keyset(good, secrets, name="chatproxy/sealed-keyset/v2"),
        "has the format 'chatproxy/sealed-keyset/v2'",
    )
    yield case("a field of the file more", whole[:-1] + ',"x":1}', unread)
    yield case("mac altered", whole.replace('"mac":"', '"mac":"AAAA'), unfit)
    yield case("mac under a longer key", second.sealed_keyset(good, secrets, size=33), unfit)
    yield case("a blank more", whole.replace('"id":"', '"id": "'), unfit)
    yield case("destroyed version brought back", whole.replace("DESTROYED", "RETIRED"), unfit)
    swapped = whole.replace("DECRYPT", "@").replace("PRIMARY", "DECRYPT", 1).replace("@", "PRIMARY")
    yield case("another version made primary", swapped, unfit)
    first, other = good["annotations"][0]["wrapped"], good["annotations"][1]["wrapped"]
    exchanged = whole.replace(first, "@").replace(other, first).replace("@", other)
    yield case("wraps exchanged", exchanged, unfit)
    yield case("secrets exchanged", whole, unfit, [secrets[0], secrets[2], secrets[1], secrets[3]])
    yield case("another secret", whole, unfit, [*secrets[:3], drawn("x")])
    yield case("another pseudonym key", whole, unfit, [drawn("x"), *secrets[1:]])
    yield case("a secret less", whole, "was not unwrapped to keys", secrets[:3])
    yield case("a secret more", whole, "was not unwrapped to keys", [*secrets, drawn("x")])
    yield case("a secret cut short", whole, "was not unwrapped to keys", [*secrets[:3], secrets[3][:31]])
    yield edited("a field more", lambda keyset: keyset.update(extra=1), unread)
    for where in ("annotations", "signing"):
        yield edited(f"a field of a key of {where} more", partial(_one_more, where), unread)
    yield edited("a field of pseudonyms more", lambda keyset: keyset["pseudonyms"].update(note=""), unread)
    for field in sorted(good):
        yield edited(f"without {field}", lambda keyset, field=field: keyset.pop(field), unread)  # type: ignore[misc]
    yield edited("id not hex", lambda keyset: keyset.update(id="mine"), unread)
    yield edited("id with a newline", lambda keyset: keyset.update(id=good["id"] + "\n"), unread)
    for version in (0, -1, 65_536):
        yield edited(f"version {version}", partial(_set_version, version), unread)
    yield edited("created before 1970", lambda keyset: keyset.update(created_at=-1), unread)
    yield edited("unknown status", lambda keyset: keyset["signing"][1].update(status="ACTIVE"), unread)
    yield edited("two primaries", lambda keyset: keyset["annotations"][0].update(status="PRIMARY"), "PRIMARY")
    yield edited("version twice", lambda keyset: keyset["annotations"][0].update(version=2), "twice")
    yield edited(
        "public key of another seed",
        lambda keyset: keyset["signing"][1].update(public=b64(drawn("x"))),
        "has a public key",
    )


def _one_more(where: str, keyset: Any) -> None:
    keyset[where][0]["note"] = ""


def _set_version(version: int, keyset: Any) -> None:
    keyset["annotations"][0]["version"] = version


def _documents(kind: str, said: dict[str, Any]) -> Iterator[Case]:
    """A signed statement and what others may make of it; *said*: what is in it."""
    seed, other = drawn("signing"), drawn("another signing key")
    publics = [second.public_key(seed).hex(), second.public_key(drawn("an older key")).hex()]
    form = f"chatproxy/{kind}/v1"
    word = kind.rpartition("-")[2]
    not_one, unknown, forged = f"{word}_format", f"{word}_unknown_key", f"{word}_signature"
    document = {"format": form, **said}

    def case(name: str, file: bytes, expect: str, opens_to: Any = None, *, blanks: int = 0) -> Case:
        shown = {} if opens_to is None else {"says": opens_to}
        return {
            "name": name,
            "file": file.hex(),
            "blanks": blanks,
            "publics": publics,
            "expect": expect,
            **shown,
        }

    def signed(document: Any = document, seed: bytes = seed, **changed: Any) -> bytes:
        return second.canonical({**document, "signature": second.signature_of(document, seed, **changed)})

    def signed_as(signature: Any) -> bytes:
        return second.canonical({**document, "signature": signature})

    whole = signed() + b"\n"
    good = second.signature_of(document, seed)
    yield case("whole", whole, "opens", document)
    yield case("without the line end", whole.strip(), "opens", document)
    yield case("under an older key", signed(seed=drawn("an older key")), "opens", document)
    spaced = json.dumps({**document, "signature": good}, indent=2).encode()
    yield case("written in another way", spaced, "opens", document)
    yield case("empty", b"", not_one)
    yield case("cut in the middle", whole[: len(whole) // 2], not_one)
    yield case("two", whole + whole, not_one)
    yield case("a list", b"[]", not_one)
    yield case("not UTF-8", whole.replace(b"chatproxy", b"chatprox\xff"), not_one)
    yield case("nested without end", b'{"x":' + b"[" * 5000, not_one)
    longest = (256 << 10) - len(whole)
    yield case("as long as may be", whole, "opens", document, blanks=longest)
    yield case("a byte longer", whole, not_one, blanks=longest + 1)
    yield case("a member twice", b'{"format":"x",' + whole[1:], not_one)
    yield case("a fraction", signed(document | {"extra": 1.5}), not_one)
    yield case("not a number", signed(document | {"extra": float("nan")}), not_one)
    yield case("half a character", whole.replace(b'"format"', b'"\\ud800":0,"format"', 1), not_one)
    yield case("of another form", signed(document | {"format": form + "2"}), not_one)
    yield case("no signature", second.canonical(document), not_one)
    yield case("signature is a text", signed_as("x"), not_one)
    yield case("signature with a member more", signed(extra=1), not_one)
    yield case("another algorithm", signed(alg="none"), not_one)
    for name in ("alg", "kid", "value"):
        yield case(
            f"signature without {name}", signed_as({k: v for k, v in good.items() if k != name}), not_one
        )
    yield case("signature padded", signed(value=good["value"] + "=="), not_one)
    yield case("signature in base64", signed(value=good["value"][:-4] + "+/+/"), not_one)
    short = second.base64url(base64.urlsafe_b64decode(good["value"] + "==")[:-4])
    yield case("signed by somebody else", signed(seed=other), unknown)
    yield case("under a key that is not named", signed(kid="x"), unknown)
    yield case("signed by somebody else in our name", signed(seed=other, kid=good["kid"]), forged)
    yield case("signature cut short", signed(value=short), forged)
    yield case("signature empty", signed(value=""), forged)
    yield case("a member more", second.canonical({**document, "x": 1, "signature": good}), forged)
    for name, value in said.items():
        if isinstance(value, str):
            yield case(
                f"{name} altered",
                second.canonical({**document, name: value + "x", "signature": good}),
                forged,
            )
    unsigned_form = second.signature_of(document | {"format": "chatproxy/other/v1"}, seed)
    yield case("signed as another form", signed_as(unsigned_form), forged)


def receipts() -> Iterator[Case]:
    return _documents(
        "receipt",
        {
            "schema_version": "ISO/IEC TS 27560:2023",
            "receipt_id": "0b5a5dcb-7d59-4d4e-9d4c-0b6a0d0e2a11",
            "pii_principal_id": drawn("subject", 16).hex(),
            "event": {"event_state": "given", "event_time": "2026-11-23T04:41:07.000Z"},
            "party_identification": {"party_name": "Société 例え", "party_role": "controller"},
        },
    )


def certificates() -> Iterator[Case]:
    return _documents(
        "erasure-certificate",
        {
            "certificate_id": "0b5a5dcb-7d59-4d4e-9d4c-0b6a0d0e2a12",
            "subject": drawn("subject", 16).hex(),
            "erased_at": "2026-11-23T04:41:07.000Z",
            "removed": {"turns": 2, "records": 2, "names": 6, "ledger_events": 1},
            "proof": {"tried": 2, "opened": 0, "codes": {"no_subject_key": 2}},
            "kept": [],
        },
    )


FILES = {
    "records": records,
    "wraps": wraps,
    "root_wraps": root_wraps,
    "annotations": annotations,
    "keysets": keysets,
    "sealed_keysets": sealed_keysets,
    "rings": rings,
    "receipts": receipts,
    "certificates": certificates,
    "pseudonyms": pseudonyms,
}


def text_of(name: str) -> str:
    return json.dumps(list(FILES[name]()), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    for file_name in FILES:
        (HERE / f"{file_name}.json").write_text(text_of(file_name))
