"""Say what is kept on which ground, until when, and whether anything is overdue."""

import sys
from collections.abc import Mapping

import click

from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json, print_table
from chatproxy.cli.vault import in_vault
from chatproxy.policy.instants import format_instant
from chatproxy.vault import Vault
from chatproxy.workflows.retention_report import UNREADABLE, Retained

_FOUND_FAULTS = 3


@click.group()
def retention() -> None:
    """Say what is kept on which ground, and whether anything is overdue."""


@retention.command()
@as_json_option
def report(*, as_json: bool) -> None:
    """Look at all that is kept, class by class: how much, since when, and what must be gone when. Opens nothing.

    Exit code 3 if anything is overdue, or not as it was kept.
    """

    async def work(vault: Vault) -> Mapping[str, Retained]:
        return await vault.retention_reporter.report()

    found = in_vault(work)
    rows = [_row(name, what) for name, what in found.items()]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        columns = ("class", "count", "oldest", "next due", "due", "overdue")
        print_table(columns, [list(row.values()) for row in rows if row["count"]])
    overdue = sum(what.overdue for what in found.values())
    if not as_json:
        click.echo(f"Overdue: {overdue}.")
    if overdue or found[UNREADABLE].count:
        sys.exit(_FOUND_FAULTS)


def _row(name: str, what: Retained) -> dict[str, object]:
    return {
        "class": name,
        "count": what.count,
        "oldest": None if what.oldest is None else format_instant(what.oldest),
        "next_due": None if what.next_due is None else format_instant(what.next_due),
        "due": what.due,
        "overdue": what.overdue,
    }
