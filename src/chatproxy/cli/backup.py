"""Copy what is kept."""

import asyncio
from pathlib import Path

import click

from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault
from chatproxy.policy.instants import format_instant
from chatproxy.store.backup import Backup, take_backup
from chatproxy.store.opening import EMBEDDED
from chatproxy.vault import Vault


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@as_json_option
def backup(directory: Path, *, as_json: bool) -> None:
    """Copy the embedded store to DIRECTORY, which must not be there, beside a running proxy or alone.

    The keyset is not in it: back it up elsewhere. Until CHATPROXY_ERASURE_HORIZON after an erasure a backup from before
    it can be read by who has the keyset too.
    """

    async def work(vault: Vault) -> Backup:
        if vault.settings.store != EMBEDDED:
            raise click.UsageError(
                "a store of your own is backed up by its own means; see docs/erasure.md, Backups"
            )
        await asyncio.to_thread(vault.audit.append, "store.backup", {})
        return await take_backup(
            vault.store.connections, Path(vault.settings.data_dir) / "store", directory, now=vault.clock()
        )

    done = in_vault(work)
    if as_json:
        print_json({"taken_at": format_instant(done.taken_at), "files": len(done.files)})
    else:
        click.echo(
            f"Backed up to {directory}: {len(done.files)} files, as of {format_instant(done.taken_at)}."
        )
