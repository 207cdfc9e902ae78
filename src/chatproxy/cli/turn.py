"""Flag a turn for safety, and lift the flag."""

import click

from chatproxy.cli.happened import operator, say
from chatproxy.cli.people import as_json_option, named_turn, read_name
from chatproxy.cli.vault import in_vault
from chatproxy.consent.events import FactEvent
from chatproxy.vault import Vault


@click.group()
def turn() -> None:
    """Flag a turn for safety, and lift the flag.

    TURN is a handle from `transcripts list --json` or the header X-Chat-Turn; - reads it from standard input.
    """


@turn.command()
@click.argument("turn", callback=read_name)
@as_json_option
def flag(turn: str, *, as_json: bool) -> None:
    """Keep a turn for safety, for the safety period; training waits for the review."""

    async def work(vault: Vault) -> FactEvent | None:
        subject, ident = named_turn(vault, turn)
        return await vault.happenings.flag(subject, ident, actor=operator())

    say("Flagged", in_vault(work), unchanged="It is flagged already.", as_json=as_json)


@turn.command()
@click.argument("turn", callback=read_name)
@as_json_option
def unflag(turn: str, *, as_json: bool) -> None:
    """Lift the flag: the turn is not kept for safety any more."""

    async def work(vault: Vault) -> FactEvent | None:
        subject, ident = named_turn(vault, turn)
        return await vault.happenings.lift_flag(subject, ident, actor=operator())

    say("The flag is lifted", in_vault(work), unchanged="It is not flagged.", as_json=as_json)
