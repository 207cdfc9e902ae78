"""Record what happens to a person's account, hand out what is held of them, and erase them."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from chatproxy.cli.access import access, open_archive
from chatproxy.cli.happened import operator, say
from chatproxy.cli.people import as_json_option, confirm, of_person, yes_option
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault, read_keyset
from chatproxy.consent.events import FactEvent
from chatproxy.consent.receipts import read_public_keys
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.vault import Vault
from chatproxy.workflows.erasure_certificate import verify_certificate as read_certificate

_FOUND_FAULTS = 3


@click.group()
def subject() -> None:
    """Record what happens to a person's account, hand out what is held of them, and erase them.

    SUBJECT is the data subject's id as the identity layer sends it; give - to read it from standard input, since
    other users of a machine can see the arguments of a command.
    """


subject.add_command(access)
subject.add_command(open_archive)


@subject.command("delete-account")
@of_person
@yes_option
@as_json_option
def delete_account(subject: str, tenant: str, *, is_said: bool, as_json: bool) -> None:
    """The account was deleted: every conversation of it is, and what the person agreed to has ended.

    Erased within 30 days; what is kept for safety, feedback or a legal hold stays for that.
    """
    confirm("Delete every conversation of this person?", is_said=is_said)

    async def work(vault: Vault) -> FactEvent:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)
        return await vault.happenings.delete_account(
            tag, actor=operator(), circumstances=vault.person_desk.circumstances()
        )

    say("Account deleted", in_vault(work), unchanged="", as_json=as_json)


@subject.command()
@of_person
@yes_option
@as_json_option
def minor(subject: str, tenant: str, *, is_said: bool, as_json: bool) -> None:
    """The person is a minor: what is kept of them is erased, at once and for good, and nothing more is kept."""
    confirm("Erase all that is kept of this person, at once and for good?", is_said=is_said)

    async def work(vault: Vault) -> FactEvent | None:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)
        return await vault.happenings.find_minor(tag, actor=operator())

    say("Recorded as a minor", in_vault(work), unchanged="It is on record already.", as_json=as_json)


@subject.command()
@of_person
@yes_option
@click.option(
    "--certificate",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Where the signed certificate goes; it must not be there yet.",
)
@as_json_option
def erase(subject: str, tenant: str, *, is_said: bool, path: Path | None, as_json: bool) -> None:
    """Erase a person: from this instant on nothing of them opens or is written, on any node.

    What a legal hold covers stays, sealed, and the certificate says so. Exit code 0 also where nothing is held. If this
    is stopped, any node that runs goes on; do it again for the certificate, which waits until it is taken: with
    --certificate or --json.
    """
    if path is not None and path.exists():
        raise click.UsageError(f"{path} is there already; name a new file for the certificate")
    confirm("Erase this person, at once and for good?", is_said=is_said)

    async def work(vault: Vault) -> bytes | None:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)
        erasure = await vault.eraser.erase(tag, by=operator().by)
        file = await vault.eraser.certificate(tag)
        if file is None and erasure is not None:
            raise StoreUnavailableError("somebody else is erasing this person too: do it again")
        if file is not None and (path is not None or as_json):
            if path is not None:
                _write(path, file)
            await vault.eraser.handed_over(tag, file)
        return file

    file = in_vault(work)
    if file is None:
        if as_json:
            print_json({"erased": False})
        else:
            click.echo("Nothing found.")
        return
    certificate = verified(file, None)
    if as_json:
        print_json({"erased": True, "certificate": certificate})
        return
    removed = certificate["removed"]
    click.echo(
        f"Erased, at {certificate['erased_at']}: {removed['turns']} turns, {removed['records']} records."
    )
    for kept in certificate["kept"]:
        click.echo(
            f"Kept under a legal hold, sealed: {kept['count']} turns, to be reviewed at {kept['review_at']}."
        )
    click.echo(f"Backups can be read until {certificate['backups']['readable_until']}.")


@subject.command("verify-certificate")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The public keys as a JWK Set; without it, those of this node's keyset.",
)
@as_json_option
def verify_certificate(file: Path, keys_file: Path | None, *, as_json: bool) -> None:
    """See that a certificate of an erasure is one of this deployment, unchanged. Needs no store.

    Exit code 3 if it is not.
    """
    try:
        certificate = verified(file.read_bytes(), keys_file)
    except UndecryptableError as error:
        if as_json:
            print_json({"valid": False, "reason": error.reason})
        else:
            click.echo(f"NOT VALID: {error.reason}.")
        sys.exit(_FOUND_FAULTS)
    if as_json:
        print_json({"valid": True, "certificate": certificate})
    else:
        click.echo(
            f"Valid: {certificate['subject']} was erased at {certificate['erased_at']}; "
            f"{certificate['proof']['opened']} of {certificate['proof']['tried']} records tried could be opened."
        )


def verified(file: bytes, keys_file: Path | None) -> dict[str, Any]:
    """Return what a certificate says. Raises UndecryptableError, ConfigurationError."""
    if keys_file is not None:
        publics = read_public_keys(keys_file.read_text(encoding="utf-8"), source=str(keys_file))
    else:
        publics = read_keyset().signing_publics()
    return read_certificate(file, publics=publics)


def _write(path: Path, file: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(file)
