"""The root in a real vault: what it wraps, what opens, what retiring, destroying, sealing and restarting do."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from chatproxy.clock import wall_clock
from chatproxy.crypto.keys import KeyStatus
from chatproxy.errors import RootRefusedError, RootUnavailableError, UndecryptableError
from chatproxy.kms.transit import TransitRoot
from chatproxy.kms.transit_address import TransitAddress
from chatproxy.kms.vault_api import REST_MS, NoKeyError, VaultAPI
from chatproxy.ports import RootVersion
from vault.server import Bao, running_bao

KEY = bytes(range(32))
ROTATING = (
    "read keys/{0}",
    "update encrypt/{0}",
    "update decrypt/{0}",
    "update keys/{0}/rotate",
    "update keys/{0}/config",
    "update keys/{0}/trim",
)
"""What docs/providers.md lists."""


class Time:
    """The wall clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


def a_root(
    bao: Bao,
    name: str,
    *,
    token: str = "",
    clock: Time | None = None,
    trusting: ssl.SSLContext | None = None,
    deadline: float = 10.0,
) -> TransitRoot:
    address = TransitAddress.parse(bao.url(name))
    api = VaultAPI(
        address,
        token=token or bao.token,
        ssl_context=trusting,
        clock=clock or Time(),
        deadline_seconds=deadline,
        pause_seconds=0.01,
    )
    return TransitRoot(address, api)


async def a_made_root(bao: Bao, name: str) -> TransitRoot:
    root = a_root(bao, name)
    assert await root.create()
    return root


def statuses(versions: list[RootVersion]) -> list[KeyStatus]:
    return [each.status for each in versions]


async def test_what_is_wrapped_opens_as_what_it_was_wrapped_and_as_nothing_else(bao: Bao) -> None:
    root = await a_made_root(bao, "opens")
    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])

    assert await root.unwrap("ring", [(b"kek/1", wrapped)]) == [KEY]
    for purpose, ident in (("ring", b"kek/2"), ("keyset", b"kek/1")):
        with pytest.raises(UndecryptableError, match="root_wrap_refused"):
            await root.unwrap(purpose, [(ident, wrapped)])
    other = await a_made_root(bao, "opens-not")
    with pytest.raises(UndecryptableError, match="root_wrap_refused"):
        await other.unwrap("ring", [(b"kek/1", wrapped)])


async def test_any_number_is_wrapped_at_once(bao: Bao) -> None:
    root = await a_made_root(bao, "many")
    keys = [(b"kek/%d" % number, number.to_bytes(32, "big")) for number in range(450)]

    wraps = await root.wrap("ring", keys)

    opened = await root.unwrap("ring", [(ident, wrap) for (ident, _), wrap in zip(keys, wraps, strict=True)])
    assert opened == [key for _, key in keys]
    assert await root.wrap("ring", []) == []


async def test_a_key_that_is_there_is_not_made_and_one_that_is_not_is_not_made_by_wrapping(bao: Bao) -> None:
    root = await a_made_root(bao, "once")

    assert not await root.create()
    misspelt = a_root(bao, "onec")
    with pytest.raises(NoKeyError, match="does not exist"):
        await misspelt.wrap("ring", [(b"kek/1", KEY)])
    with pytest.raises(NoKeyError):
        await misspelt.versions()


async def test_a_version_is_retired_brought_back_and_destroyed_for_good(bao: Bao) -> None:
    root = await a_made_root(bao, "life")
    [first] = await root.wrap("ring", [(b"kek/1", KEY)])

    assert await root.add_version(now=0) == 2
    assert statuses(await root.versions()) == [KeyStatus.DECRYPT, KeyStatus.PRIMARY]
    assert (await root.versions())[0].created_at > 0
    [second] = await root.wrap("ring", [(b"kek/1", KEY)])
    assert [root.version_of(wrap) for wrap in (first, second)] == [1, 2]
    assert await root.unwrap("ring", [(b"kek/1", first), (b"kek/1", second)]) == [KEY, KEY]

    await root.set_status(1, KeyStatus.RETIRED)
    assert statuses(await root.versions()) == [KeyStatus.RETIRED, KeyStatus.PRIMARY]
    with pytest.raises(UndecryptableError, match="root_wrap_refused"):
        await root.unwrap("ring", [(b"kek/1", first)])

    await root.set_status(1, KeyStatus.DECRYPT)
    assert await root.unwrap("ring", [(b"kek/1", first)]) == [KEY]

    await root.set_status(1, KeyStatus.RETIRED)
    await root.set_status(1, KeyStatus.DESTROYED)
    await root.set_status(1, KeyStatus.DESTROYED)
    assert statuses(await root.versions()) == [KeyStatus.DESTROYED, KeyStatus.PRIMARY]
    for status in (KeyStatus.DECRYPT, KeyStatus.RETIRED, KeyStatus.PRIMARY):
        with pytest.raises(RootRefusedError, match="is DESTROYED, and cannot become"):
            await root.set_status(1, status)
    with pytest.raises(UndecryptableError, match="root_wrap_refused"):
        await root.unwrap("ring", [(b"kek/1", first)])
    assert await root.unwrap("ring", [(b"kek/1", second)]) == [KEY]


async def test_retiring_an_older_version_does_not_bring_a_newer_one_back(bao: Bao) -> None:
    root = await a_made_root(bao, "order")
    await root.add_version(now=0)
    await root.add_version(now=0)

    await root.set_status(2, KeyStatus.RETIRED)
    await root.set_status(1, KeyStatus.RETIRED)

    assert statuses(await root.versions()) == [KeyStatus.RETIRED, KeyStatus.RETIRED, KeyStatus.PRIMARY]
    await root.set_status(1, KeyStatus.DESTROYED)
    await root.set_status(2, KeyStatus.DESTROYED)
    assert await root.add_version(now=0) == 4
    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])
    assert root.version_of(wrapped) == 4


@pytest.mark.parametrize("options", [{"type": "ed25519"}, {"type": "aes256-gcm96", "derived": True}], ids=str)
async def test_a_key_of_another_kind_is_refused(bao: Bao, options: dict[str, object]) -> None:
    name = f"kind-{len(options)}"
    await bao.ask("POST", f"transit/keys/{name}", options)

    with pytest.raises(RootRefusedError, match="is not a key of the type"):
        await a_root(bao, name).wrap("ring", [(b"kek/1", KEY)])


async def test_the_rights_that_the_docs_list_are_enough(bao: Bao) -> None:
    await a_made_root(bao, "rights")
    root = a_root(bao, "rights", token=await bao.token_for("rights", *ROTATING))

    [first] = await root.wrap("ring", [(b"kek/1", KEY)])
    assert await root.unwrap("ring", [(b"kek/1", first)]) == [KEY]
    await root.add_version(now=0)
    await root.set_status(1, KeyStatus.RETIRED)
    await root.set_status(1, KeyStatus.DESTROYED)


async def test_a_token_without_rights_or_revoked_is_said_without_showing_it(bao: Bao) -> None:
    made = await a_made_root(bao, "revoked")
    [wrapped] = await made.wrap("ring", [(b"kek/1", KEY)])
    poor = await bao.token_for("poor", "read keys/revoked")

    for token in (poor, "hvs.nonsense"):
        with pytest.raises(RootRefusedError, match="refuses this token") as refusal:
            await a_root(bao, "revoked", token=token).unwrap("ring", [(b"kek/1", wrapped)])
        assert token not in str(refusal.value)


async def test_a_key_that_was_deleted_is_not_taken_for_damage(bao: Bao) -> None:
    root = await a_made_root(bao, "deleted")
    [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])
    await bao.ask("POST", "transit/keys/deleted/config", {"deletion_allowed": True})
    await bao.ask("DELETE", "transit/keys/deleted")

    with pytest.raises(NoKeyError, match="restore the vault"):
        await root.unwrap("ring", [(b"kek/1", wrapped)])


async def test_a_sealed_vault_is_waited_for_and_a_restarted_one_has_all(
    program: Path, tmp_path: Path
) -> None:
    clock = Time()
    async with running_bao(program, tmp_path) as bao:
        root = a_root(bao, "kept", clock=clock)
        await root.create()
        [wrapped] = await root.wrap("ring", [(b"kek/1", KEY)])

        await bao.seal()
        with pytest.raises(RootUnavailableError, match="status 503: it is sealed"):
            await root.unwrap("ring", [(b"kek/1", wrapped)])
        await bao.unseal()
        with pytest.raises(RootUnavailableError, match="asked again in a few seconds"):
            await root.unwrap("ring", [(b"kek/1", wrapped)])
        clock.ahead += REST_MS
        assert await root.unwrap("ring", [(b"kek/1", wrapped)]) == [KEY]

        await bao.stop()
        with pytest.raises(RootUnavailableError, match="ConnectError"):
            await root.versions()
        await bao.start()
        await bao.unseal()
        clock.ahead += REST_MS
        assert await root.unwrap("ring", [(b"kek/1", wrapped)]) == [KEY]


async def test_the_vaults_certificate_is_verified(program: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running_bao(program, tmp_path / "bao", certificate=(chain, key)) as bao:
        assert await a_root(bao, "tls", trusting=trusting).create()

        with pytest.raises(RootRefusedError, match="CHATPROXY_KEYSET_CA_FILE"):
            await a_root(bao, "tls", trusting=ssl.create_default_context()).versions()


async def test_two_rotations_at_once_each_name_a_version(bao: Bao) -> None:
    root = await a_made_root(bao, "twice")

    found = await asyncio.gather(root.add_version(now=0), root.add_version(now=0))

    versions = await root.versions()
    assert 3 <= max(found) == versions[-1].version
    assert versions[-1].status is KeyStatus.PRIMARY
