"""Make, look after and rotate the keys. No command shows a byte of one."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click

from chatproxy.audit.log import operating_user
from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json, print_table
from chatproxy.cli.renew import renew
from chatproxy.cli.reseal import reseal
from chatproxy.cli.vault import in_vault, read_keyset
from chatproxy.clock import wall_clock
from chatproxy.consent.receipts import write_public_keys
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import Keyset, make_keyset
from chatproxy.demo.drill import DRILLS, Evidence
from chatproxy.errors import KeysetError
from chatproxy.kms.file import KeysetFile
from chatproxy.kms.transit_address import SCHEME as TRANSIT
from chatproxy.policy.instants import format_instant
from chatproxy.settings import Settings, load_settings
from chatproxy.telemetry import configure_logging
from chatproxy.vault import Vault, create_sealed, open_keyset
from chatproxy.web.server import run_event_loop
from chatproxy.workflows.key_report import KeyReport, KeyRow, keyset_rows, root_rows
from chatproxy.workflows.rotate import NotYetError, Rewrapped, Rotation, RotationState, Step
from chatproxy.workflows.watch_ring import list_nodes

_FOUND_FAULTS = 3
_LOOK_AGAIN_SECONDS = 1.0
_LOOKS_FOR_NODES = 10
_OVER = frozenset({Step.DESTROYED, Step.ABORTED})
_COMES_AFTER = {
    Step.ROOT_ADDED: "generate",
    Step.KEK_ADDED: "promote",
    Step.PROMOTED: "rewrap",
    Step.REWRAPPED: "retire",
    Step.RETIRED: "destroy",
    Step.DESTROYED: "generate",
    Step.ABORTED: "generate",
}
_OUT_OF_ORDER = "the rotation is at: {state}. Next comes `chatproxy keys {first}`"
T = TypeVar("T")


@click.group()
def keys() -> None:
    """Make, look after and rotate the keys."""


keys.add_command(reseal)
keys.add_command(renew)


@keys.command()
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="Where to make it, instead of where CHATPROXY_KEYSET says.",
)
def init(path: Path | None) -> None:
    """Make the first keyset. One that is there already is never touched."""
    settings = load_settings(overrides={} if path is None else {"keyset": f"file:{path}"}).settings
    keyset = make_keyset(created_at=wall_clock())
    if settings.keyset.startswith(TRANSIT):
        _init_sealed(settings, keyset)
        return
    file = KeysetFile.from_url(settings.keyset, data_dir=Path(settings.data_dir))
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
    if offline:
        source = open_keyset(load_settings().settings)
        if (local := source.local()) is None:
            raise KeysetError(f"{source.name}: this keyset lies in the store; leave out --offline")
        versions = asyncio.run(source.root.versions())
        _show_rows([*root_rows(versions), *keyset_rows(local)], local, as_json=as_json)
        return
    report, keyset = in_vault(_report_with_keyset)
    _show_rows(report.rows, keyset, as_json=as_json)
    summary = _summary(report, now=wall_clock())
    if as_json:
        print_json({"keyset": keyset.id, **summary})
        return
    for name, value in summary.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{name.replace('_', ' ')}: {line}")


@keys.command()
@click.option("--wait", is_flag=True, help="Where a step has to wait, wait for it.")
@click.option("--dry-run", is_flag=True, help="Say what comes next and what it waits for; change nothing.")
@as_json_option
def rotate(*, wait: bool, dry_run: bool, as_json: bool) -> None:
    """Go on with the rotation that is under way, or begin one, as far as it goes now.

    The steps: a new root version, a new key-encryption key under it, promotion, rewrapping, and, each after its time,
    retiring and destroying the old ones. Where a step has to wait, the command says for what and ends with exit code 0;
    run it again later. It can be interrupted at any time, and run by anybody else.
    """
    if dry_run:
        _say_next(as_json=as_json)
        return
    _advance(Step.DESTROYED, after=frozenset(Step), as_json=as_json, may_wait=True, wait=wait)


@keys.command()
@as_json_option
def generate(*, as_json: bool) -> None:
    """Begin a rotation: make the new versions and hand them out, without using them yet."""
    _advance(Step.KEK_ADDED, after=frozenset({*_OVER, Step.ROOT_ADDED}), as_json=as_json)


@keys.command()
@as_json_option
def promote(*, as_json: bool) -> None:
    """Make the new version the one that keys are wrapped with, once every live node has it."""
    _advance(Step.PROMOTED, after=frozenset({Step.ROOT_ADDED, Step.KEK_ADDED}), as_json=as_json)


@keys.command()
@click.option("--dry-run", is_flag=True, help="Count only.")
@as_json_option
def rewrap(*, dry_run: bool, as_json: bool) -> None:
    """Wrap every key that lies under another version under the primary one. No record changes, and no expiry."""

    async def work(rotation: Rotation) -> Rewrapped:
        if dry_run:
            primary = (await rotation.ring()).primary_version
            counts = await rotation.count_wraps()
            left = {version: count.total for version, count in counts.items() if version not in {0, primary}}
            return Rewrapped(left, {0: counts[0].total} if 0 in counts else {})
        done = await rotation.rewrap()
        state = await rotation.state()
        if state is not None and state.step is Step.PROMOTED:
            await rotation.advance()
        return done

    done = _with_rotation(work)
    if as_json:
        moved, damaged = (
            {str(version): number for version, number in of.items()} for of in (done.moved, done.damaged)
        )
        print_json({"dry_run": dry_run, "rewrapped": moved, "damaged": damaged})
    else:
        for version, number in done.moved.items():
            click.echo(f"{'Would rewrap' if dry_run else 'Rewrapped'} {number} keys from version {version}.")
        for version, number in done.damaged.items():
            click.echo(
                f"{number} keys do not open{f' under version {version}' if version else ''}, and stay as they are."
            )
        if not done.moved and not done.damaged:
            click.echo("Every key lies under the primary version.")
    if done.damaged:
        sys.exit(_FOUND_FAULTS)


@keys.command()
@as_json_option
def retire(*, as_json: bool) -> None:
    """Stop opening with the old version, once nothing lies under it. It can be brought back."""
    _advance(Step.RETIRED, after=frozenset({Step.PROMOTED, Step.REWRAPPED}), as_json=as_json)


@keys.command()
@as_json_option
def unretire(*, as_json: bool) -> None:
    """Open with what was retired again, root and key-encryption key; the rotation goes on with rewrapping."""

    async def work(rotation: Rotation) -> list[int]:
        for _ in range(_LOOKS_FOR_NODES):
            with contextlib.suppress(NotYetError):
                return await rotation.unretire()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return await rotation.unretire()

    versions = _with_rotation(work)
    if as_json:
        print_json({"unretired": versions})
    else:
        click.echo(f"Open again: version {', '.join(map(str, versions)) or 'none was retired'}.")


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would become unreadable; change nothing.")
@click.option(
    "--abandon-damaged", type=int, default=0, help="How many keys that do not open may be given up."
)
@as_json_option
def destroy(*, yes: bool, dry_run: bool, abandon_damaged: int, as_json: bool) -> None:
    """Take the old version away for good: no backup that needs it can be read from then on."""
    report = in_vault(_report)
    gone = [row for row in report.rows if row.purpose in {"root", "kek"} and row.status is KeyStatus.RETIRED]
    wraps = sum(row.wraps or 0 for row in gone)
    promoted = next(
        row.since for row in report.rows if row.purpose == "kek" and row.status is KeyStatus.PRIMARY
    )
    if as_json:
        print_json(
            {
                "destroys": [f"{row.purpose}/{row.version}" for row in gone],
                "keys_that_become_unreadable": wraps,
                "backups_unreadable_before": format_instant(promoted),
                "confirmed_by": operating_user(),
            }
        )
    else:
        for row in gone:
            click.echo(
                f"To be destroyed: {row.purpose} version {row.version}, retired since {format_instant(row.since)}."
            )
        click.echo(f"Keys of people and days that become unreadable: {wraps}.")
        click.echo(
            f"Backups of the store from before {format_instant(promoted)} become unreadable with this keyset."
        )
    if dry_run:
        return
    if not yes:
        click.confirm(
            f"This cannot be taken back. Do you, {operating_user()}, confirm it?", abort=True, err=True
        )
    _advance(
        Step.DESTROYED, after=frozenset({Step.RETIRED}), as_json=as_json, abandon_damaged=abandon_damaged
    )


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def abort(*, yes: bool, as_json: bool) -> None:
    """Give up a rotation whose new version is not in use yet."""
    if not yes:
        click.confirm("The new version is destroyed. Go on?", abort=True, err=True)

    async def work(rotation: Rotation) -> None:
        await rotation.abort()

    _with_rotation(work)
    if as_json:
        print_json({"step": Step.ABORTED})
    else:
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


@keys.command()
@click.argument("name", type=click.Choice(sorted(DRILLS)))
@as_json_option
def drill(name: str, *, as_json: bool) -> None:
    """Practise on a scratch store in a temporary directory, through the real code, and print the evidence.

    Nothing of this deployment is read or changed. Exit code 3 if something did not hold.
    """

    def say(what: str, held: bool) -> None:  # noqa: FBT001 - one of two columns
        if as_json:
            print_json({"claim": what, "held": held})
        else:
            click.echo(f"{'ok  ' if held else 'FAIL'}  {what}")

    configure_logging("error")
    evidence = Evidence(say=say)
    with tempfile.TemporaryDirectory(prefix="chatproxy-drill-") as directory:
        run_event_loop(DRILLS[name](Path(directory), evidence))
    if not evidence.all_held:
        sys.exit(_FOUND_FAULTS)


@keys.command()
@click.option("--to", "url", required=True, help="transit:https://HOST:PORT/MOUNT/NAME, or file:PATH")
@click.option("--yes", is_flag=True, help="Do not ask.")
def move(url: str, *, yes: bool) -> None:
    """Move the keyset to a vault, or to a new file: no key of a person or a day changes, and no record.

    It comes under another root there. The token of a vault is that of CHATPROXY_KEYSET_TOKEN. Afterwards each node is
    started again with the new CHATPROXY_KEYSET.
    """
    load_settings(overrides={"keyset": url})
    if not yes:
        click.confirm(
            "Each node must then be started again with the new setting. Go on?", abort=True, err=True
        )
    in_vault(lambda vault: vault.move_to(url))
    click.echo(f"The keyset is {'sealed under' if url.startswith(TRANSIT) else 'in'} {url} now.")
    click.echo(
        "Set CHATPROXY_KEYSET to that on every node and start it again within ten minutes. When all is well "
        "(`chatproxy keys verify`), rotate once, and destroy what held the root before, the keyset file with all its "
        "copies or the key in the vault: backups of the store from before can be read with it, whatever is erased from "
        "now on."
    )


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


def _advance(
    target: Step,
    *,
    after: frozenset[Step],
    as_json: bool,
    may_wait: bool = False,
    wait: bool = False,
    abandon_damaged: int = 0,
) -> None:
    """Take steps until *target* is done, if the rotation is at one of *after*, where a new one counts as over.

    What has to wait is said; it is a failure unless ``may_wait``, and waited for with ``wait``.
    """

    async def work(rotation: Rotation) -> NotYetError | None:
        state = await rotation.state()
        step = Step.DESTROYED if state is None else state.step
        if step is target and step not in _OVER:
            return None
        if step not in after:
            raise KeysetError(_OUT_OF_ORDER.format(state=_described(state), first=_COMES_AFTER[step]))
        while True:
            try:
                state = await rotation.advance(abandon_damaged=abandon_damaged)
            except NotYetError as waiting:
                if not wait:
                    return waiting
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                continue
            _say_step(state, as_json=as_json)
            if state.step is target or state.is_over:
                return None

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


def _say_next(*, as_json: bool) -> None:
    report = in_vault(_report)
    step = Step.DESTROYED if report.state is None else report.state.step
    wraps = sum(row.wraps or 0 for row in report.rows)
    if as_json:
        print_json(
            {
                "at": step,
                "next": _COMES_AFTER[step],
                "waits_for": list(report.blockers),
                "keys_to_rewrap_at_most": wraps,
            }
        )
        return
    click.echo(f"The rotation is at: {_described(report.state)}. Next comes {_COMES_AFTER[step]}.")
    click.echo(f"At most {wraps} keys are rewrapped in it, and no record.")
    for blocker in report.blockers:
        click.echo(f"A retirement waits for: {blocker}.")


def _described(state: RotationState | None) -> str:
    if state is None:
        return "none yet"
    if state.is_over:
        return f"{state.step} at {format_instant(state.step_at)} by {state.step_by}"
    return (
        f"{state.step} since {format_instant(state.step_at)} by {state.step_by}, begun by {state.by} at "
        f"{format_instant(state.started_at)}"
    )


def _with_rotation(work: Callable[[Rotation], Awaitable[T]]) -> T:
    async def run(vault: Vault) -> T:
        seen = 0

        def progress(number: int) -> None:
            nonlocal seen
            seen += number
            if sys.stderr.isatty():
                click.echo(f"\r{seen} keys", nl=False, err=True)

        try:
            return await work(vault.rotation(by=operating_user(), progress=progress))
        finally:
            if seen and sys.stderr.isatty():
                click.echo("\r\x1b[K", nl=False, err=True)

    return in_vault(run)


async def _report_with_keyset(vault: Vault) -> tuple[KeyReport, Keyset]:
    return await _report(vault), vault.keyset


async def _report(vault: Vault) -> KeyReport:
    return await vault.key_report(by=operating_user())


def _show_rows(rows: Iterable[KeyRow], keyset: Keyset, *, as_json: bool) -> None:
    shown: list[dict[str, object]] = [
        {
            "purpose": row.purpose,
            "version": row.version,
            "status": row.status.value,
            "created_at": format_instant(row.created_at),
            "since": format_instant(row.since),
            "ends_at": None if row.ends_at is None else format_instant(row.ends_at),
            "wraps": row.wraps,
        }
        for row in rows
    ]
    if as_json:
        for each in shown:
            print_json({"keyset": keyset.id, **each})
        return
    click.echo(f"Keyset {keyset.id}")
    columns = ("purpose", "version", "status", "created_at", "since", "ends_at", "wraps")
    print_table(columns, [[each[name] for name in columns] for each in shown])


def _summary(report: KeyReport, *, now: int) -> dict[str, object]:
    horizon = report.horizon.at
    return {
        "rotation": _described(report.state),
        "a_retirement_waits_for": list(report.blockers),
        "nodes": [
            f"{node.name} ({'live' if node.is_live(now) else 'gone'}, ring {node.state.ring if node.state else '?'})"
            for node in report.nodes
        ],
        "wraps_that_name_no_key_of_the_ring": report.unreadable_wraps,
        "erasure_horizon": "nothing that was erased is out of reach of old backups yet: no version is destroyed"
        if horizon is None
        else f"what was erased before {format_instant(horizon)} cannot be read from any backup",
        "next_rotation": f"begins by {format_instant(report.rotate_by)} for the horizon to hold",
        "warnings": [
            *(["a rotation is overdue: run `chatproxy keys rotate`"] if report.is_overdue else []),
            *report.warnings,
        ],
    }


@keys.command()
def public() -> None:
    """Print the public keys that verify receipts, as a JWK Set; they may be given to anyone."""
    click.echo(write_public_keys(read_keyset().signing_publics()))


def _init_sealed(settings: Settings, keyset: Keyset) -> None:
    """Make the first keyset where a vault keeps the root."""
    made = asyncio.run(create_sealed(settings, keyset))
    click.echo(
        f"Made keyset {keyset.id} in the store, sealed under {settings.keyset}, "
        f"{'which was made' if made else 'which was there'}."
    )
    click.echo(
        "Whoever has lost the key in the vault can read no conversation: see that the vault is backed up, apart from the "
        "store, and that nobody may delete the key."
    )
