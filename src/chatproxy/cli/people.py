"""How commands are told of a person: by the company's own id, which is best kept off the command line.

Conversations and turns are named by their handles, a conversation also by the client's own id and its person.
"""

import sys
from collections.abc import Callable
from typing import Any

import click

from chatproxy.errors import NotFoundError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.vault import Vault
from chatproxy.workflows.happenings import NO_CONVERSATION, NO_TURN

Command = Callable[..., Any]


def read_subject(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return a data subject's id; ``-`` reads it from standard input. Usage error if it is empty.

    White space around it does not count, as it does not in the header of a front.
    """
    if value is None:
        return None
    subject = (sys.stdin.read() if value == "-" else value).strip()
    if "\n" in subject:
        raise click.BadParameter("is more than one line; give one data subject's id")
    if not subject:
        raise click.BadParameter("is empty; give the data subject's id, or - to read it from standard input")
    return subject


def of_person(command: Command) -> Command:
    """Add SUBJECT and --tenant."""
    tenant = click.option("--tenant", default="default", show_default=True, help="The tenant of the person.")
    subject = click.argument("subject", callback=read_subject)
    decorated: Command = subject(tenant(command))
    return decorated


def read_name(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return a handle or a client's own id; ``-`` reads it from standard input. Usage error if it is empty."""
    name = sys.stdin.readline().strip() if value == "-" else value
    if not name:
        raise click.BadParameter("is empty; give a handle, or - to read it from standard input")
    return name


def of_conversation(command: Command) -> Command:
    """Add CONVERSATION, --subject and --tenant."""
    tenant = click.option("--tenant", default="default", show_default=True, help="The tenant of --subject.")
    subject = click.option(
        "--subject",
        callback=read_subject,
        help="Whose, where CONVERSATION is the client's own id; - reads it.",
    )
    conversation = click.argument("conversation", callback=read_name)
    decorated: Command = conversation(subject(tenant(command)))
    return decorated


def confirm(question: str, *, is_said: bool) -> None:
    """Ask on a terminal whether to go on, unless ``--yes`` said so. Usage error where there is nobody to ask."""
    if is_said:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on; say --yes")
    click.confirm(question, abort=True, err=True)


def yes_option(command: Command) -> Command:
    """Add --yes."""
    option: Command = click.option("--yes", "is_said", is_flag=True, help="Do not ask.")
    decorated: Command = option(command)
    return decorated


def named_turn(vault: Vault, handle: str) -> tuple[SubjectTag, TurnId]:
    """Return the turn of a handle. Raises NotFoundError: what is no handle, and what nobody has, look alike."""
    try:
        return vault.pseudonyms.read_turn_handle(handle)
    except NotFoundError:
        raise NotFoundError(NO_TURN) from None


def named_conversation(
    vault: Vault, conversation: str, subject: str | None, tenant: str
) -> tuple[SubjectTag, ConversationTag]:
    """Return the pseudonyms of one conversation and its person. Raises NotFoundError, UsageError."""
    owner, wanted = names(vault, subject, tenant, conversation)
    if owner is None or wanted is None:
        raise NotFoundError(NO_CONVERSATION)
    return owner, wanted


def names(
    vault: Vault, subject: str | None, tenant: str, conversation: str | None
) -> tuple[SubjectTag | None, ConversationTag | None]:
    """Return the pseudonyms that the options mean. Raises NotFoundError, UsageError."""
    tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject) if subject else None
    if conversation is None:
        return tag, None
    try:
        owner, wanted = vault.pseudonyms.read_conversation_handle(conversation)
    except NotFoundError:
        if subject is None:
            raise click.UsageError(
                "the conversation is not a handle; with the client's own id give its --subject too"
            ) from None
        return tag, vault.pseudonyms.conversation_tag(
            tenant=tenant, subject=subject, conversation=conversation
        )
    if tag is not None and tag != owner:
        raise NotFoundError(NO_CONVERSATION)
    return owner, wanted


def as_json_option(command: Command) -> Command:
    """Add --json."""
    option: Command = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    decorated: Command = option(command)
    return decorated
