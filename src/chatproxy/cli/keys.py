"""Make, look after and rotate the keys. No command shows a byte of one."""

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import click

from chatproxy.audit.log import operating_user
from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json, print_table
from chatproxy.cli.vault import in_vault
from chatproxy.clock import wall_clock
from chatproxy.consent.receipts import write_public_keys
from chatproxy.crypto.keyset import Keyset, make_keyset
from chatproxy.crypto.ring_changes import erasure_horizon
from chatproxy.errors import KeysetError
from chatproxy.kms.file import KeysetFile
from chatproxy.policy.instants import format_instant
from chatproxy.settings import load_settings
from chatproxy.vault import Vault
from chatproxy.workflows.rotate import NotYetError, Rotation, RotationState, Step, WrapCount
from chatproxy.workflows.watch_ring import list_nodes

_FOUND_FAULTS = 3
T = TypeVar("T")


@click.group()
def keys() -> None:
    """Make, look after and rotate the keys."""


@keys.command()
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="Where to make it, instead of where CHATPROXY_KEYSET says.",
)
def init(path: Path | None) -> None:
    """Make the first keyset. A file that is there already is never touched."""
    overrides = {} if path is None else {"keyset": f"file:{path}"}
    file = _keyset_file(overrides)
    keyset = make_keyset(created_at=wall_clock())
    file.create(keyset)
    click.echo(f"Made keyset {keyset.id} in {file.path} (mode 0600).")
    click.echo(
        "Keep a copy of this file, apart from every backup of the data directory and of the store: whoever has both "
        "can read every conversation, and whoever has lost it can read none."
    )


@keys.command()
@click.option("--offline", is_flag=True, help="The keyset alone, without the store.")
@as_json_option
def status(*, offline: bool, as_json: bool) -> None:
    """Show every key version, what lies under it, who knows it, and until when backups can be read."""
    file = _keyset_file({})
    keyset = file.load()
    rows = list(_keyset_rows(keyset))
    summary: dict[str, object] = {}
    if not offline:
        ring, summary = in_vault(_overview)
        rows += ring
    if as_json:
        for row in rows:
            print_json({"keyset": keyset.id, **row})
        if summary:
            print_json({"keyset": keyset.id, **summary})
        return
    click.echo(f"Keyset {keyset.id} in {file.path}")
    columns = ("purpose", "version", "status", "created_at", "wraps")
    print_table(columns, [[row.get(name) for name in columns] for row in rows])
    for name, value in summary.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")


@keys.command()
@as_json_option
def rotate(*, as_json: bool) -> None:
    """Go on with the rotation that is under way, or begin one, as far as it goes now.

    The steps: a new root version, a new key-encryption key under it, promotion, rewrapping, and, each after its time,
    retiring and destroying the old ones. Where a step has to wait, the command says for what and ends with exit code 0;
    run it again later. It can be interrupted at any time, and run by anybody else.
    """
    _advance(Step.DESTROYED, as_json=as_json, may_wait=True)


@keys.command()
@as_json_option
def generate(*, as_json: bool) -> None:
    """Begin a rotation: make the new versions and hand them out, without using them yet."""
    _advance(Step.KEK_ADDED, as_json=as_json)


@keys.command()
@as_json_option
def promote(*, as_json: bool) -> None:
    """Make the new version the one that keys are wrapped with, once every live node has it."""
    _advance(Step.PROMOTED, as_json=as_json)


@keys.command()
@click.option("--dry-run", is_flag=True, help="Count only.")
@as_json_option
def rewrap(*, dry_run: bool, as_json: bool) -> None:
    """Wrap every key that lies under another version under the primary one. No record changes, and no expiry."""

    async def work(rotation: Rotation) -> dict[int, int]:
        if not dry_run:
            return await rotation.rewrap()
        primary = (await rotation.ring()).primary_version
        counts = await rotation.count_wraps()
        return {version: count.total for version, count in counts.items() if version != primary}

    moved = _with_rotation(work)
    if as_json:
        print_json(
            {"dry_run": dry_run, "rewrapped": {str(version): number for version, number in moved.items()}}
        )
        return
    for version, number in moved.items():
        click.echo(f"{'Would rewrap' if dry_run else 'Rewrapped'} {number} keys from version {version}.")
    if not moved:
        click.echo("Every key lies under the primary version.")


@keys.command()
@as_json_option
def retire(*, as_json: bool) -> None:
    """Stop opening with the old version, once nothing lies under it. It can be brought back."""
    _advance(Step.RETIRED, as_json=as_json)


@keys.command()
@click.argument("version", type=int)
def unretire(version: int) -> None:
    """Open with a retired version of the key-encryption key again."""

    async def work(rotation: Rotation) -> None:
        await rotation.unretire(version)

    _with_rotation(work)
    click.echo(f"Version {version} opens again.")


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def destroy(*, yes: bool, as_json: bool) -> None:
    """Take the old version away for good: no backup that needs it can be read from then on."""
    if not yes:
        click.confirm(
            "What lies under the old version in backups can never be read again. Go on?", abort=True
        )
    _advance(Step.DESTROYED, as_json=as_json)


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def abort(*, yes: bool) -> None:
    """Give up a rotation whose new version is not in use yet."""
    if not yes:
        click.confirm("The new version is destroyed. Go on?", abort=True)

    async def work(rotation: Rotation) -> None:
        await rotation.abort()

    _with_rotation(work)
    click.echo("The rotation was given up; the old version stays in use.")


@keys.command()
@as_json_option
def verify(*, as_json: bool) -> None:
    """Open every wrapped key. Exit code 3 if one does not open."""

    async def work(rotation: Rotation) -> tuple[int, int]:
        return await rotation.verify()

    opened, faulty = _with_rotation(work)
    if as_json:
        print_json({"opened": opened, "faulty": faulty})
    else:
        click.echo(f"{opened} wrapped keys open, {faulty} do not.")
    if faulty:
        sys.exit(_FOUND_FAULTS)


@keys.command("forget-node")
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget_node(node: str, *, yes: bool) -> None:
    """Say that a node that has vanished is lost, with whatever was on it."""
    if not yes:
        click.confirm(f"What {node} has captured and not stored is lost. Go on?", abort=True)

    async def work(vault: Vault) -> None:
        known = {each.name: each for each in await list_nodes(vault.store)}
        if node not in known:
            raise KeysetError(f"no node {node} is known; `chatproxy keys status` lists them")
        if known[node].is_live(vault.clock()):
            raise KeysetError(f"node {node} is running: stop it first")
        vault.audit.append("keys.forget_node", {"node": node})
        await vault.store.forget_node(node)

    in_vault(work)
    click.echo(f"Node {node} is forgotten.")


def _advance(target: Step, *, as_json: bool, may_wait: bool = False) -> None:
    """Take steps until *target* is done. What has to wait is said; it is a failure unless ``may_wait``."""
    steps = list(Step)

    async def work(rotation: Rotation) -> NotYetError | None:
        state = await rotation.state()
        begun = state is not None and not state.is_over
        while True:
            if begun and state is not None and steps.index(state.step) >= steps.index(target):
                return None
            try:
                state = await rotation.advance()
            except NotYetError as waiting:
                return waiting
            begun = True
            _say_step(state, as_json=as_json)

    waiting = _with_rotation(work)
    if waiting is not None:
        if not may_wait:
            raise waiting
        if as_json:
            print_json({"waiting": str(waiting)})
        else:
            click.echo(f"Not yet: {waiting}.")


def _say_step(state: RotationState, *, as_json: bool) -> None:
    if as_json:
        print_json({"step": state.step, "at": format_instant(state.step_at), "kek": state.kek_to})
    else:
        click.echo(f"{format_instant(state.step_at)}  {state.step}")


def _with_rotation(work: Callable[[Rotation], Awaitable[T]]) -> T:
    async def run(vault: Vault) -> T:
        return await work(vault.rotation(by=operating_user()))

    return in_vault(run)


async def _overview(vault: Vault) -> tuple[list[dict[str, object]], dict[str, object]]:
    rotation = vault.rotation(by=operating_user())
    ring = (await rotation.ring()).manifest
    counts = await rotation.count_wraps()
    rows: list[dict[str, object]] = [
        {
            "purpose": "kek",
            "version": key.version,
            "status": key.status.value,
            "created_at": format_instant(key.created_at),
            "wraps": counts.get(key.version, WrapCount()).total,
        }
        for key in ring.keys
    ]
    state = await rotation.state()
    now = vault.clock()
    nodes = await list_nodes(vault.store)
    horizon = erasure_horizon(ring)
    return rows, {
        "rotation": "none yet" if state is None else f"{state.step} since {format_instant(state.step_at)}",
        "nodes": ", ".join(
            f"{node.name} ({'live' if node.is_live(now) else 'gone'}, ring {node.state.ring if node.state else '?'})"
            for node in nodes
        )
        or "none",
        "erasure_horizon": "nothing that was erased is out of reach of old backups yet: no version is destroyed"
        if horizon is None
        else f"what was erased before {format_instant(horizon)} cannot be read from any backup",
    }


@keys.command()
def public() -> None:
    """Print the public keys that verify receipts, as a JWK Set; they may be given to anyone."""
    click.echo(write_public_keys(_keyset_file({}).load().signing_publics()))


def _keyset_file(overrides: Mapping[str, str]) -> KeysetFile:
    settings = load_settings(overrides=overrides).settings
    return KeysetFile.from_url(settings.keyset, data_dir=Path(settings.data_dir))


def _keyset_rows(keyset: Keyset) -> Iterator[dict[str, object]]:
    """Give one row a key version. Pseudonyms have no versions: their key is for ever."""
    for purpose, entries in keyset.versioned().items():
        for entry in entries:
            yield {
                "purpose": purpose,
                "version": entry.version,
                "status": entry.status.value,
                "created_at": format_instant(entry.created_at),
            }
    yield {
        "purpose": "pseudonyms",
        "version": None,
        "status": "PRIMARY",
        "created_at": format_instant(keyset.pseudonyms.created_at),
    }
