"""Record and read what people have chosen."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

from chatproxy.cli.happened import operator
from chatproxy.cli.people import as_json_option, of_person
from chatproxy.cli.printing import print_json, print_table
from chatproxy.cli.vault import in_vault, read_keyset
from chatproxy.consent.events import PURPOSES, SURFACES, Choice, ConsentEvent
from chatproxy.consent.receipts import read_public_keys, verify_receipt
from chatproxy.errors import UndecryptableError
from chatproxy.model import Surface
from chatproxy.policy.instants import format_instant
from chatproxy.vault import Vault
from chatproxy.workflows.person_history import Receipt


@click.group()
def consent() -> None:
    """Record and read what people have chosen.

    SUBJECT is the data subject's id as the identity layer sends it; give - to read it from standard input, since
    other users of a machine can see the arguments of a command.
    """


@consent.command()
@of_person
@click.option(
    "--purpose", "purposes", multiple=True, type=click.Choice(PURPOSES), help="Only for this one; repeatable."
)
@click.option(
    "--surface", "surfaces", multiple=True, type=click.Choice(SURFACES), help="Only there; repeatable."
)
@as_json_option
def give(
    subject: str, tenant: str, purposes: tuple[str, ...], surfaces: tuple[Surface, ...], *, as_json: bool
) -> None:
    """The person agrees: for every purpose, in chat and in code, unless it is said which."""
    _record(Choice.GIVEN, subject, tenant, as_json=as_json, purposes=purposes, surfaces=surfaces)


@consent.command()
@of_person
@as_json_option
def refuse(subject: str, tenant: str, *, as_json: bool) -> None:
    """The person does not agree."""
    _record(Choice.REFUSED, subject, tenant, as_json=as_json)


@consent.command()
@of_person
@as_json_option
def defer(subject: str, tenant: str, *, as_json: bool) -> None:
    """The person does not want to choose now."""
    _record(Choice.DEFERRED, subject, tenant, as_json=as_json)


@consent.command()
@of_person
@as_json_option
def withdraw(subject: str, tenant: str, *, as_json: bool) -> None:
    """The person takes back what they agreed to."""
    _record(Choice.WITHDRAWN, subject, tenant, as_json=as_json)


@consent.command()
@of_person
@as_json_option
def show(subject: str, tenant: str, *, as_json: bool) -> None:
    """Show the choice that stands."""
    events = _history(subject, tenant)
    if as_json:
        print_json(_row(events[-1]) if events else {"choice": None})
    elif events:
        _print([events[-1]])
    else:
        click.echo("No choice is on record, which counts as no.")


@consent.command()
@of_person
@as_json_option
def history(subject: str, tenant: str, *, as_json: bool) -> None:
    """Show every choice, oldest first."""
    events = _history(subject, tenant)
    if as_json:
        for event in events:
            print_json(_row(event))
    elif events:
        _print(events)
    else:
        click.echo("No choice is on record, which counts as no.")


@consent.command()
@of_person
@click.argument("receipt_id")
def receipt(subject: str, tenant: str, receipt_id: str) -> None:
    """Print the signed receipt of one choice; `history --json` has their names."""

    async def work(vault: Vault) -> Receipt:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)
        return await vault.person_desk.receipt(tag, receipt_id)

    click.echo(in_vault(work).file.decode(), nl=False)


@consent.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public keys, as `chatproxy keys public` prints them, instead of those of the keyset.",
)
@as_json_option
def verify(file: BinaryIO, key_file: Path | None, *, as_json: bool) -> None:
    """See whether a receipt is genuine. With --key it needs no keyset, and no store.

    Exit code 3 if it is not.
    """
    try:
        found = verify_receipt(file.read(), publics=_public_keys(key_file))
    except UndecryptableError as error:
        if as_json:
            print_json({"genuine": False, "reason": error.reason})
        else:
            click.echo(f"NOT GENUINE: {_FAULTS[error.reason]}.")
        sys.exit(_FOUND_FAULTS)
    event = found["event"]
    if as_json:
        print_json({"genuine": True, "receipt": found})
    else:
        click.echo(f"Genuine: {event['event_state']} at {event['event_time']}, by {event['entity_id']}.")


_FOUND_FAULTS = 3
_FAULTS = {
    "receipt_format": "this is no receipt of a kind that this chatproxy knows, or it was cut or written over",
    "receipt_unknown_key": "it names a key that is not among those given",
    "receipt_signature": "its signature does not fit what it says",
}


def _public_keys(key_file: Path | None) -> tuple[bytes, ...]:
    if key_file is not None:
        return read_public_keys(key_file.read_text(encoding="utf-8", errors="replace"), source=str(key_file))
    return read_keyset().signing_publics()


def _record(
    choice: Choice,
    subject: str,
    tenant: str,
    *,
    as_json: bool,
    purposes: Sequence[str] = (),
    surfaces: Sequence[Surface] = (),
) -> None:
    async def work(vault: Vault) -> ConsentEvent:
        tag, actor = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject), operator()
        await vault.happenings.tell_choice(tag, choice, actor=actor)
        return await vault.ledger.record(
            tag,
            choice,
            at=vault.clock(),
            by=actor.by,
            method=actor.method,
            purposes=purposes or PURPOSES,
            surfaces=surfaces or SURFACES,
            circumstances=vault.person_desk.circumstances(),
        )

    event = in_vault(work)
    if as_json:
        print_json(_row(event))
    else:
        click.echo(f"Recorded: {choice}, at {format_instant(event.at)}. Receipt: {event.receipt_id}.")


def _history(subject: str, tenant: str) -> tuple[ConsentEvent, ...]:
    async def work(vault: Vault) -> tuple[ConsentEvent, ...]:
        events = await vault.ledger.history(vault.pseudonyms.subject_tag(tenant=tenant, subject=subject))
        return tuple(event for event in events if isinstance(event, ConsentEvent))

    return in_vault(work)


def _row(event: ConsentEvent) -> dict[str, object]:
    return {
        "choice": event.choice,
        "at": format_instant(event.at),
        "by": event.by,
        "method": event.method,
        "purposes": event.purposes,
        "surfaces": list(event.surfaces),
        "receipt_id": event.receipt_id,
        "event": event.digest,
    }


def _print(events: Sequence[ConsentEvent]) -> None:
    print_table(
        ("at", "choice", "purposes", "surfaces", "by"),
        [
            (
                format_instant(event.at),
                event.choice,
                ", ".join(purpose for purpose, agreed in event.purposes.items() if agreed) or "none",
                ", ".join(event.surfaces),
                event.by,
            )
            for event in events
        ],
    )
