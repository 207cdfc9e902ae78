"""Is the record of who did what whole?"""

import asyncio
import sys
from pathlib import Path

import click

from chatproxy.audit.verify import Verified, verify_log
from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault, read_keyset
from chatproxy.crypto.tlog import verifier_key
from chatproxy.errors import ChatproxyError
from chatproxy.settings import load_settings
from chatproxy.vault import Vault, audit_directory, audit_origin
from chatproxy.workflows.publish_checkpoint import checkpoint_name

_FOUND_FAULTS = 3


@click.group()
def audit() -> None:
    """See that the record of who did what is whole."""


@audit.command()
@click.option(
    "--kept",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A checkpoint that was kept elsewhere; repeatable.",
)
@click.option("--offline", is_flag=True, help="Do not ask the store for the checkpoint that lies there.")
@as_json_option
def verify(kept: tuple[Path, ...], *, offline: bool, as_json: bool) -> None:
    """Read the whole audit log of this node and compare it with every checkpoint.

    Exit code 3 if an entry was altered, put in or taken out, or if the end is missing.
    """
    settings = load_settings().settings
    keyset = read_keyset()
    notes = [path.read_text(encoding="utf-8") for path in kept]
    if not offline:
        notes += _in_store(settings.node)
    found = verify_log(
        audit_directory(settings),
        keys={audit_origin(settings, keyset): keyset.signing_publics()},
        kept=notes,
    )
    if as_json:
        print_json(
            {
                "whole": found.fault is None,
                "entries": found.entries,
                "checkpoints": found.checkpoints,
                "fault": found.fault,
                "first_bad": found.first_bad,
            }
        )
    else:
        click.echo(_in_words(found))
    if found.fault is not None:
        sys.exit(_FOUND_FAULTS)


@audit.command()
def checkpoint() -> None:
    """Print the latest checkpoint, to be kept where nobody of this node can change it, and how to check it."""

    async def work(vault: Vault) -> tuple[str | None, str]:
        origin = audit_origin(vault.settings, vault.keyset)
        publics = vault.keyset.signing_publics()
        return await asyncio.to_thread(vault.audit.latest_checkpoint), verifier_key(origin, publics[0])

    note, key = in_vault(work)
    if note is None:
        click.echo("Nothing has been recorded yet.")
        return
    click.echo(note, nl=False)
    click.echo(f"chatproxy: signed with {key}", err=True)


def _in_store(node: str) -> list[str]:
    """Return the checkpoint in the store, if there is one."""

    async def work(vault: Vault) -> bytes | None:
        return await vault.store.read_control(checkpoint_name(node))

    try:
        note = in_vault(work)
    except ChatproxyError as error:
        raise click.ClickException(
            f"the checkpoint in the store cannot be read: {error}\n"
            "With --offline the log is compared with the checkpoints beside it alone"
        ) from None
    return [note.decode("utf-8", "replace")] if note else []


def _in_words(found: Verified) -> str:
    if found.fault is not None:
        return f"NOT WHOLE: {found.fault}."
    if not found.entries:
        return "Nothing has been recorded yet."
    return f"Whole: {found.entries} entries, as {found.checkpoints} checkpoints say."
