"""Place, release and list legal holds."""

import sys
from collections.abc import Callable
from typing import Any

import click

from chatproxy.cli.happened import operator, say
from chatproxy.cli.people import as_json_option, names, read_name, read_subject
from chatproxy.cli.printing import print_json, print_table
from chatproxy.cli.vault import in_vault
from chatproxy.consent.events import FactEvent
from chatproxy.errors import NotFoundError
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.vault import Vault
from chatproxy.workflows.happenings import NO_PERSON, StandingHold

_FOUND_FAULTS = 3
_DATE = 10

Command = Callable[..., Any]


@click.group()
def hold() -> None:
    """Place, release and list legal holds.

    A hold suspends erasure of one person's turns, or of one conversation's. What nothing else keeps is sealed
    meanwhile and of no use. It never keeps what comes after it.
    """


def _scope(command: Command) -> Command:
    """Add --case and what is held."""
    options = (
        click.option("--case", required=True, callback=read_name, help="The id of the case; - reads it."),
        click.option(
            "--subject", callback=read_subject, help="The person; - reads the id from standard input."
        ),
        click.option("--tenant", default="default", show_default=True, help="The tenant of --subject."),
        click.option(
            "--conversation", help="Only this one: its handle, or with --subject the client's own id."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _read_review(_: click.Context, __: click.Parameter, value: str) -> int:
    """Return an instant (ms) given as a date, which is its first instant in UTC, or as RFC 3339."""
    try:
        return parse_instant(f"{value}T00:00:00Z" if len(value) == _DATE else value)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or a date such as 2027-01-31") from None


@hold.command()
@_scope
@click.option("--authority", required=True, help="Who asks for it: a court, a regulator, counsel.")
@click.option(
    "--review",
    "review_at",
    required=True,
    callback=_read_review,
    help="When it is to be looked at again: a date.",
)
@as_json_option
def place(
    case: str,
    subject: str | None,
    tenant: str,
    conversation: str | None,
    authority: str,
    review_at: int,
    *,
    as_json: bool,
) -> None:
    """Suspend erasure. The same case again moves the review, and stands since its first time."""

    async def work(vault: Vault) -> FactEvent:
        owner, wanted = _named(vault, subject, tenant, conversation)
        try:
            return await vault.happenings.place_hold(
                owner, wanted, case=case, authority=authority, review_at=review_at, actor=operator()
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    event = in_vault(work)
    say("Held", event, unchanged="", as_json=as_json, review_at=format_instant(review_at))


@hold.command()
@_scope
@as_json_option
def release(case: str, subject: str | None, tenant: str, conversation: str | None, *, as_json: bool) -> None:
    """End a hold: what is overdue goes at the next decision, which a running proxy makes at once."""

    async def work(vault: Vault) -> FactEvent:
        owner, wanted = _named(vault, subject, tenant, conversation)
        return await vault.happenings.release_hold(owner, wanted, case=case, actor=operator())

    say("Released", in_vault(work), unchanged="", as_json=as_json)


@hold.command("list")
@click.option(
    "--subject", callback=read_subject, help="Only of this person; - reads the id from standard input."
)
@click.option("--tenant", default="default", show_default=True, help="The tenant of --subject.")
@as_json_option
def list_holds(subject: str | None, tenant: str, *, as_json: bool) -> None:
    """List the holds that stand, a hold a row. Exit code 3 if a ledger is not authentic."""

    async def work(vault: Vault) -> tuple[list[dict[str, object]], int]:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject) if subject else None
        rows, faults = [], 0
        async for found in vault.happenings.holds(tag):
            if isinstance(found, StandingHold):
                rows.append(_row(vault, found))
            else:
                faults += 1
        return rows, faults

    rows, faults = in_vault(work)
    columns = ("case", "authority", "placed_at", "review_at", "overdue", "subject", "conversation")
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_table(columns, [[row[column] for column in columns] for row in rows])
    else:
        click.echo("No legal hold stands.")
    if faults:
        click.echo(
            f"chatproxy: the ledgers of {faults} people are not authentic; their holds are not known",
            err=True,
        )
        sys.exit(_FOUND_FAULTS)


def _row(vault: Vault, found: StandingHold) -> dict[str, object]:
    hold = found.hold
    handle = None
    if hold.conversation is not None:
        handle = vault.pseudonyms.conversation_handle(found.subject, hold.conversation)
    return {
        "case": hold.case,
        "authority": hold.authority,
        "placed_at": format_instant(hold.placed_at),
        "review_at": format_instant(hold.review_at),
        "overdue": hold.review_at <= vault.clock(),
        "subject": found.subject.hex(),
        "conversation": handle,
    }


def _named(
    vault: Vault, subject: str | None, tenant: str, conversation: str | None
) -> tuple[SubjectTag, ConversationTag | None]:
    if subject is None and conversation is None:
        raise click.UsageError("say what is held: --subject, --conversation, or both")
    owner, wanted = names(vault, subject, tenant, conversation)
    if owner is None:
        raise NotFoundError(NO_PERSON)
    return owner, wanted
