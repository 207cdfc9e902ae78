"""A key that the file maps names its tenant; the file is guarded, strict, and read again when it changes."""

import asyncio
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from chatproxy.errors import ConfigurationError
from chatproxy.identities.api_keys import APIKeyFile, APIKeyIdentity, hash_api_key
from chatproxy.identity import Identified, Rejected
from chatproxy.model import Caller, Surface

ACME_KEY = "sk-acme-" + "a1" * 16
BETA_KEY = "sk-beta-" + "b2" * 16
ACME = Caller(tenant="acme", plan="team")
BETA = Caller(tenant="beta", subject="bot", plan="api", surface=Surface.CODE, zdr=True)
LINES: list[dict[str, Any]] = [
    {"key": hash_api_key(ACME_KEY), "tenant": "acme", "plan": "Team", "label": "billing bot"},
    {
        "key": hash_api_key(BETA_KEY),
        "tenant": "beta",
        "plan": "api",
        "subject": "bot",
        "surface": "code",
        "zdr": True,
    },
]
NOBODY = Caller()


def written(path: Path, *lines: object, mode: int = 0o600) -> Path:
    draft = path.with_name(secrets.token_hex(4))
    draft.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    draft.chmod(mode)
    draft.rename(path)
    return path


def loaded(path: Path) -> APIKeyFile:
    keys = APIKeyFile(path)
    keys.load()
    return keys


@pytest.fixture
def identity(tmp_path: Path) -> APIKeyIdentity:
    return APIKeyIdentity(loaded(written(tmp_path / "keys", *LINES)))


def authorization(key: str) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + key.encode())


def test_the_hash_is_sha256_with_its_name() -> None:
    assert hash_api_key(ACME_KEY) == "sha256:" + hashlib.sha256(ACME_KEY.encode()).hexdigest()


@pytest.mark.parametrize(
    "key", ["", "k" * 19, "key with a space 0123", "schlüssel-0123456789012", "line\n" * 5]
)
def test_what_can_be_guessed_or_not_be_sent_is_not_hashed(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        hash_api_key(key)
    assert not key or key not in str(caught.value)


PRESENTED: dict[str, tuple[list[tuple[bytes, bytes]], Caller, str | None]] = {
    "nothing": ([], NOBODY, None),
    "after Bearer": ([authorization(ACME_KEY)], ACME, None),
    "after bearer in small letters": ([(b"authorization", b"bearer " + ACME_KEY.encode())], ACME, None),
    "in x-api-key": ([(b"x-api-key", ACME_KEY.encode())], ACME, None),
    "in x-goog-api-key": ([(b"x-goog-api-key", b" " + ACME_KEY.encode())], ACME, None),
    "with all that a line may say": ([authorization(BETA_KEY)], BETA, None),
    "in both": ([authorization(ACME_KEY), (b"x-api-key", ACME_KEY.encode())], ACME, None),
    "beside the upstream's own": (
        [authorization("sk-upstream"), (b"x-api-key", ACME_KEY.encode())],
        ACME,
        None,
    ),
    "two known": (
        [authorization(ACME_KEY), (b"x-api-key", BETA_KEY.encode())],
        Caller(zdr=True),
        Rejected.REPEATED,
    ),
    "twice, differently": (
        [(b"x-api-key", ACME_KEY.encode()), (b"x-api-key", BETA_KEY.encode())],
        Caller(zdr=True),
        Rejected.REPEATED,
    ),
    "another scheme": ([(b"authorization", b"Basic " + ACME_KEY.encode())], NOBODY, None),
    "unknown": ([authorization("sk-" + "0" * 32)], NOBODY, Rejected.UNKNOWN_API_KEY),
    "in other letters": ([authorization(ACME_KEY.upper())], NOBODY, Rejected.UNKNOWN_API_KEY),
    "its hash": ([authorization(hash_api_key(ACME_KEY))], NOBODY, Rejected.UNKNOWN_API_KEY),
    "its beginning": ([authorization(ACME_KEY[:-1])], NOBODY, Rejected.UNKNOWN_API_KEY),
    "huge": ([authorization("k" * 100_000)], NOBODY, Rejected.UNKNOWN_API_KEY),
    "no text": ([(b"x-api-key", b"\xff\x00" * 20)], NOBODY, Rejected.UNKNOWN_API_KEY),
}


@pytest.mark.parametrize("headers, caller, reason", PRESENTED.values(), ids=PRESENTED.keys())
def test_the_key_names_its_tenant(
    identity: APIKeyIdentity, headers: list[tuple[bytes, bytes]], caller: Caller, reason: str | None
) -> None:
    identified = identity(headers, "192.0.2.1")

    assert (identified.caller, identified.rejected) == (caller, reason)


def test_identity_headers_name_nobody_and_are_counted(identity: APIKeyIdentity) -> None:
    headers = [(b"x-chat-subject", b"bob"), (b"x-chat-tenant", b"beta")]

    assert identity(headers, "127.0.0.1") == Identified(NOBODY, Rejected.UNTRUSTED_PEER)
    assert identity([authorization(ACME_KEY), *headers], None) == Identified(ACME, Rejected.UNTRUSTED_PEER)


@pytest.mark.parametrize("key, tenant", [(ACME_KEY, "acme"), ("sk-" + "0" * 32, "default")])
def test_signals_that_tighten_count_whatever_the_key_is(
    identity: APIKeyIdentity, key: str, tenant: str
) -> None:
    signals = [(b"x-chat-incognito", b"?1"), (b"content-usage", b"train-ai=n"), (b"sec-gpc", b"1")]

    caller = identity([authorization(key), *signals], None).caller

    assert (caller.tenant, caller.incognito, caller.train_ai_no, caller.gpc) == (tenant, True, True, True)


@given(st.binary(max_size=200), st.sampled_from([b"authorization", b"x-api-key"]))
def test_garbage_names_nobody_and_raises_nothing(value: bytes, header: bytes) -> None:
    identity = APIKeyIdentity(APIKeyFile(Path("/nowhere")))

    assert identity([(header, value), (header, b"Bearer " + value)], None).caller == NOBODY


def test_empty_lines_and_comments_do_not_count(tmp_path: Path) -> None:
    assert len(loaded(written(tmp_path / "keys", "# keys", "", LINES[0], "   ", "  # more"))) == 1


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**LINES[0], **changes}.items() if value is not ...}


BAD_LINES: dict[str, tuple[object, str]] = {
    "no JSON": ("acme", "must be a JSON object"),
    "a list": ([], "must be a JSON object"),
    "cut short": (json.dumps(LINES[0])[:-3], "must be a JSON object"),
    "bottomless": ("[" * 50_000, "must be a JSON object"),
    "a member not known": (changed(plans="team"), "no other members"),
    "no key": (changed(key=...), "must be a JSON object with key and tenant"),
    "no tenant": (changed(tenant=...), "must be a JSON object with key and tenant"),
    "a plan that is a list": (changed(plan=["team"]), "must be a JSON object"),
    "a surface not known": (changed(surface="car"), "surface (chat, code, unknown)"),
    "zdr as text": (changed(zdr="yes"), "zdr (true or false)"),
    "the key itself": (changed(key=ACME_KEY), "never the key itself"),
    "a hash in capitals": (changed(key=hash_api_key(ACME_KEY).upper()), "in lower case"),
    "a hash without its name": (changed(key=hash_api_key(ACME_KEY)[7:]), "sha256: and 64"),
    "a hash that is too short": (changed(key=hash_api_key(ACME_KEY)[:-1]), "64 hexadecimal digits"),
    "a hash and a line's end": (changed(key=hash_api_key(ACME_KEY) + "\n"), "64 hexadecimal digits"),
    "an empty tenant": (changed(tenant=""), "tenant must be"),
    "an empty plan": (changed(plan=""), "plan must be"),
    "a subject with a control character": (changed(subject="a\nb"), "subject must be"),
    "a long tenant": (changed(tenant="é" * 129), "tenant must be"),
    "the key of line 2": (LINES[1], "the same key is in line 2"),
}


@pytest.mark.parametrize("line, message", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named_and_nothing_of_the_file_counts(
    tmp_path: Path, line: object, message: str
) -> None:
    keys = APIKeyFile(written(tmp_path / "keys", "# keys", LINES[1], line))

    with pytest.raises(ConfigurationError) as caught:
        keys.load()

    assert str(caught.value).startswith(f"{tmp_path / 'keys'}, line 3: ")
    assert message in str(caught.value)
    assert ACME_KEY not in str(caught.value)
    assert len(keys) == 0


def test_of_many_bad_lines_some_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(written(tmp_path / "keys", *["bad"] * 25))

    assert str(caught.value).count(", line ") == 10
    assert str(caught.value).endswith("and 15 more lines like these")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_a_guarded_file_is_read(tmp_path: Path, mode: int) -> None:
    assert len(loaded(written(tmp_path / "keys", *LINES, mode=mode))) == 2


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o620, 0o602, 0o601, 0o604, 0o777])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600"):
        loaded(written(tmp_path / "keys", *LINES, mode=mode))


def test_a_mounted_secret_is_read_through_its_links(tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to(written(tmp_path / "version-1", *LINES))

    assert len(loaded(tmp_path / "keys")) == 2


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, message in (("missing", "No such file"), (".", "directory|regular"), ("pipe", "regular file")):
        with pytest.raises(ConfigurationError, match=message):
            loaded(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_account_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "keys", *LINES)
    os.chown(path, 12345, -1)

    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        loaded(path)


async def until(holds: Any) -> None:
    while not holds():
        await asyncio.sleep(0.001)


async def test_a_changed_file_is_read_again_and_a_bad_one_is_not_used(tmp_path: Path) -> None:
    path = written(tmp_path / "keys", LINES[0])
    keys = loaded(path)
    watching = asyncio.ensure_future(keys.watch(every_seconds=0.001))
    try:
        written(path, *LINES)
        await until(lambda: len(keys) == 2)

        written(path, LINES[1])
        await until(lambda: keys.find(ACME_KEY.encode()) is None)

        written(path, "oops")
        await until(lambda: keys.problem is not None)
        assert keys.find(BETA_KEY.encode()) == BETA

        path.unlink()
        await until(lambda: "cannot be read" in (keys.problem or ""))
        assert keys.find(BETA_KEY.encode()) == BETA

        written(path, LINES[0])
        await until(lambda: keys.problem is None)
        assert keys.find(BETA_KEY.encode()) is None
        assert keys.find(ACME_KEY.encode()) == ACME
    finally:
        watching.cancel()
