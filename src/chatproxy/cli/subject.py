"""Record what happens to a person's account."""

import click

from chatproxy.cli.happened import operator, say
from chatproxy.cli.people import as_json_option, confirm, of_person, yes_option
from chatproxy.cli.vault import in_vault
from chatproxy.consent.events import FactEvent
from chatproxy.vault import Vault


@click.group()
def subject() -> None:
    """Record what happens to a person's account.

    SUBJECT is the data subject's id as the identity layer sends it; give - to read it from standard input, since
    other users of a machine can see the arguments of a command.
    """


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
