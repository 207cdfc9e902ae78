"""How commands are told of a person: by the company's own id, which is best kept off the command line."""

import sys
from collections.abc import Callable
from typing import Any

import click

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


def as_json_option(command: Command) -> Command:
    """Add --json."""
    option: Command = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    decorated: Command = option(command)
    return decorated
