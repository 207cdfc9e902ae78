"""Hand out all that is held of a person, as an archive or as the plain record, and open a sealed archive again."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from chatproxy.audit.log import LOG_NAME
from chatproxy.cli.people import as_json_option, of_person
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault
from chatproxy.consent.receipts import write_public_keys
from chatproxy.crypto.sealed_file import SHORTEST_PASSPHRASE, Opening, Sealing
from chatproxy.policy.instants import format_instant
from chatproxy.settings import load_settings
from chatproxy.vault import Vault, audit_directory
from chatproxy.web.access_archive import SEALED, AccessArchive, sealed
from chatproxy.web.pages.access_page import AccessPage, reason_in_words
from chatproxy.web.pages.words import load_words
from chatproxy.workflows.access import Access
from chatproxy.workflows.access_reads import AccessReads

_FOUND_FAULTS = 3
_PIECE = 1 << 20
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW_FILE = click.Path(path_type=Path, dir_okay=False, writable=True)


def _read_passphrase(_: click.Context, __: click.Parameter, value: Path | None) -> str | None:
    if value is None:
        return None
    try:
        passphrase = value.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter(f"{value} cannot be read as text") from None
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise click.BadParameter(f"{value} has fewer than {SHORTEST_PASSPHRASE} characters")
    return passphrase


_passphrase_option = click.option(
    "--passphrase-file", "passphrase", type=_FILE, callback=_read_passphrase,
    help=f"A file with the passphrase, of {SHORTEST_PASSPHRASE} characters or more.",
)  # fmt: skip


@click.command()
@of_person
@click.option("--out", type=_NEW_FILE, help="Where the archive goes; it must not be there yet.")
@_passphrase_option
@click.option("--without-holds", is_flag=True, help="The law forbids to tell the person of legal holds.")
@click.option(
    "--log", "logs", multiple=True, type=_FILE, help="An audit log beside this node's own; repeatable."
)
@as_json_option
def access(
    subject: str,
    tenant: str,
    out: Path | None,
    passphrase: str | None,
    logs: tuple[Path, ...],
    *,
    without_holds: bool,
    as_json: bool,
) -> None:
    """Hand out all that is held of a person: one archive, for a program and for the person to read.

    With --json the plain record on standard output. Exit code 0 also where nothing is held; 3 if something of it is not as
    it was kept: the archive says what.
    """
    if as_json and (out is not None or passphrase is not None):
        raise click.UsageError(
            "--json prints the plain record; it goes with neither --out nor --passphrase-file"
        )
    if out is not None and out.exists():
        raise click.UsageError(f"{out} is there already; name a new file for the archive")
    own = audit_directory(load_settings().settings) / LOG_NAME
    try:
        reads = AccessReads([*([own] if own.exists() else []), *logs])
    except OSError as error:
        raise click.ClickException(
            f"the audit log {error.filename} cannot be read: {error.strerror}"
        ) from None
    words = list(load_words().values())

    async def work(vault: Vault) -> tuple[Access | None, Path | None]:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)
        desk = vault.access_desk(lambda code: reason_in_words(code, words))
        record = await desk.open(tag, reads, tells_holds=not without_holds)
        if record is None:
            return None, None
        path = None
        if as_json:
            async for line in record.lines():
                print_json(line)
        else:
            archive = AccessArchive(
                record, AccessPage(), words, public_keys=write_public_keys(vault.keyset.signing_publics())
            )
            path = out or Path(archive.name(is_sealed=passphrase is not None))
            pieces = archive.pieces()
            with _new_file(path) as file:
                async for piece in pieces if passphrase is None else sealed(pieces, Sealing(passphrase)):
                    file.write(piece)
        await record.disclosed()
        return record, path

    record, path = in_vault(work)
    if record is None:
        if as_json:
            print_json({"kind": "end", "counts": {}})
        else:
            click.echo("Nothing is held.")
        return
    if path is not None:
        counts = record.counts
        click.echo(
            f"{path}: {counts['conversation']} conversations, {counts['turn']} turns, {counts['choice']} choices, "
            f"as of {format_instant(record.at)}."
        )
    if record.counts["fault"]:
        click.echo(
            f"chatproxy: {record.counts['fault']} turns are not as they were kept; the record names them, and "
            "`chatproxy transcripts verify` says more",
            err=True,
        )
        sys.exit(_FOUND_FAULTS)


@click.command("open-archive")
@click.argument("file", type=_FILE)
@_passphrase_option
@click.option("--out", type=_NEW_FILE, help="Where the archive goes; it must not be there yet.")
def open_archive(file: Path, passphrase: str | None, out: Path | None) -> None:
    """Open an archive that is sealed to a passphrase. Needs neither store nor keyset.

    Without --passphrase-file the passphrase is asked for. A file that was changed or cut leaves nothing behind.
    """
    target = out or (file.with_suffix("") if file.suffix == SEALED else None)
    if target is None:
        raise click.UsageError(
            f"{file} does not end in {SEALED}; name the file that is to be written with --out"
        )
    if target.exists():
        raise click.UsageError(f"{target} is there already; name a new file with --out")
    if passphrase is None:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on; give --passphrase-file")
        passphrase = click.prompt("Passphrase", hide_input=True, err=True)
    opening = Opening(passphrase)
    with _new_file(target) as opened, file.open("rb") as source:
        while data := source.read(_PIECE):
            for piece in opening.add(data):
                opened.write(piece)
        opened.write(opening.end())
    click.echo(f"{target} is whole.")


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for its owner alone; it goes again if what is to be in it does not come whole."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise click.UsageError(f"{path} is there already; name a new file") from None
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritten(path, error) from None
        raise


def _unwritten(path: Path, error: OSError) -> click.ClickException:
    return click.ClickException(f"{path} cannot be written: {error.strerror}; nothing was left there")
