"""Share, exclude or delete one conversation, for the person it belongs to."""

import click

from chatproxy.cli.happened import operator, say
from chatproxy.cli.people import as_json_option, named_conversation, of_conversation
from chatproxy.cli.vault import in_vault
from chatproxy.consent.events import Choice, ConsentEvent, FactEvent
from chatproxy.policy.instants import format_instant
from chatproxy.vault import Vault
from chatproxy.workflows.transcripts import KeptTurn


@click.group()
def conversation() -> None:
    """Share, exclude or delete one conversation, for the person it belongs to.

    CONVERSATION is a handle from `transcripts list`, or the client's own id together with --subject; - reads it from
    standard input.
    """


@conversation.command()
@of_conversation
@as_json_option
def share(conversation: str, subject: str | None, tenant: str, *, as_json: bool) -> None:
    """The person lets this one conversation be used for training, whatever they chose for the account.

    Needs --subject: only a person who is known can agree, and a handle does not tell whether one is.
    """
    if subject is None:
        raise click.UsageError(
            "say whose choice this is with --subject; a conversation of nobody cannot be shared"
        )
    _choose(Choice.GIVEN, "Shared", conversation, subject, tenant, as_json=as_json)


@conversation.command()
@of_conversation
@as_json_option
def exclude(conversation: str, subject: str | None, tenant: str, *, as_json: bool) -> None:
    """The person keeps this one conversation out of training, whatever they chose for the account."""
    _choose(Choice.REFUSED, "Excluded", conversation, subject, tenant, as_json=as_json)


@conversation.command()
@of_conversation
@as_json_option
def follow(conversation: str, subject: str | None, tenant: str, *, as_json: bool) -> None:
    """Neither shared nor excluded any more: the choice about the account holds for it."""
    _choose(Choice.WITHDRAWN, "It follows the account", conversation, subject, tenant, as_json=as_json)


@conversation.command()
@of_conversation
@as_json_option
def delete(conversation: str, subject: str | None, tenant: str, *, as_json: bool) -> None:
    """The person deletes this conversation: not read or used from now on, erased within 30 days.

    What is kept for another ground than the chat and training stays for that, and is named with its end.
    """

    async def work(vault: Vault) -> tuple[FactEvent, list[KeptTurn]]:
        owner, wanted = named_conversation(vault, conversation, subject, tenant)
        event = await vault.happenings.delete_conversation(owner, wanted, actor=operator())
        left = [
            row
            async for row in vault.transcripts.walk(subject=owner, conversation=wanted)
            if isinstance(row, KeptTurn)
        ]
        return event, left

    event, left = in_vault(work)
    ends: dict[str, int] = {}
    for turn in left:
        for group in turn.groups:
            for ground, end in group.grounds.items():
                ends[ground] = max(end, ends.get(ground, 0))
    kept = {name: format_instant(at) for name, at in sorted(ends.items())}
    say("Deleted", event, unchanged="", as_json=as_json, turns=len(left), kept=kept)
    if not as_json:
        for name, written in kept.items():
            click.echo(f"  {name}: gone by {written}")


def _choose(
    choice: Choice, done: str, conversation: str, subject: str | None, tenant: str, *, as_json: bool
) -> None:
    async def work(vault: Vault) -> ConsentEvent:
        owner, wanted = named_conversation(vault, conversation, subject, tenant)
        return await vault.happenings.choose(
            owner, wanted, choice, actor=operator(), circumstances=vault.person_desk.circumstances()
        )

    event = in_vault(work)
    say(done, event, unchanged="", as_json=as_json, receipt_id=event.receipt_id)
