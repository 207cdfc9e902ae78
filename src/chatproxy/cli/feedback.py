"""Record what people send about a conversation."""

import click

from chatproxy.cli.happened import operator, say
from chatproxy.cli.people import as_json_option, named_conversation, of_conversation
from chatproxy.cli.vault import in_vault
from chatproxy.consent.events import FactEvent
from chatproxy.vault import Vault
from chatproxy.workflows.happenings import FeedbackKind


@click.group()
def feedback() -> None:
    """Record what people send about a conversation.

    CONVERSATION is a handle from `transcripts list`, or the client's own id together with --subject; - reads it from
    standard input.
    """


@feedback.command()
@of_conversation
@click.option(
    "--kind", required=True, type=click.Choice([*map(str, FeedbackKind)]), help="What the person sent."
)
@click.option(
    "--even-incognito",
    is_flag=True,
    help="The person was told that an incognito conversation is kept longer by this, and confirmed it.",
)
@as_json_option
def give(
    conversation: str, subject: str | None, tenant: str, kind: str, *, even_incognito: bool, as_json: bool
) -> None:
    """Keep the whole conversation for the feedback period; session_share for the shorter one, rating_only not at all."""

    async def work(vault: Vault) -> FactEvent | None:
        owner, wanted = named_conversation(vault, conversation, subject, tenant)
        return await vault.happenings.give_feedback(
            owner, wanted, FeedbackKind(kind), actor=operator(), is_incognito_confirmed=even_incognito
        )

    say("Feedback recorded", in_vault(work), unchanged="A rating alone keeps nothing.", as_json=as_json)


@feedback.command()
@of_conversation
@as_json_option
def withdraw(conversation: str, subject: str | None, tenant: str, *, as_json: bool) -> None:
    """Take back all feedback on the conversation: it is not kept for that any more."""

    async def work(vault: Vault) -> FactEvent:
        owner, wanted = named_conversation(vault, conversation, subject, tenant)
        return await vault.happenings.withdraw_feedback(owner, wanted, actor=operator())

    say("Feedback withdrawn", in_vault(work), unchanged="", as_json=as_json)
