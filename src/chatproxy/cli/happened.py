"""How a command says who ran it, and what it has written down."""

import click

from chatproxy.audit.log import operating_user
from chatproxy.cli.printing import print_json
from chatproxy.consent.events import LedgerEvent
from chatproxy.policy.instants import format_instant
from chatproxy.workflows.happenings import Actor


def operator() -> Actor:
    """Return the account that runs this command."""
    return Actor(by=f"operator:{operating_user()}", method="cli")


def say(done: str, event: LedgerEvent | None, *, unchanged: str, as_json: bool, **more: object) -> None:
    """Say what was written; without an *event* that nothing had to be, and why."""
    if as_json:
        written = (
            {"at": format_instant(event.at), "event": event.digest} if event else {"at": None, "event": None}
        )
        print_json({"recorded": event is not None, **written, **more})
    elif event is None:
        click.echo(unchanged)
    else:
        click.echo(f"{done}, at {format_instant(event.at)}. Decisions made from now on have seen it.")
