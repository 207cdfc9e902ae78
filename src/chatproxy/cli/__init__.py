"""The command line. Exit codes: 0 done, 1 failed, 2 usage, 3 found something that should not be."""

import importlib
import sys
from typing import NoReturn

import click

from chatproxy import __version__
from chatproxy.errors import ChatproxyError

_VERBS = {
    "audit": "See that the record of who did what is whole.",
    "backup": "Copy what is kept.",
    "config": "Show the settings and where each comes from.",
    "consent": "Record and read what people have chosen.",
    "conversation": "Share, exclude or delete one conversation.",
    "dataset": "Export what may be used for training, check it and take it back.",
    "demo": "Show the whole product on one machine.",
    "doctor": "Check settings, keyset, store, clock and upstream.",
    "feedback": "Record what people send about a conversation.",
    "hold": "Place, release and list legal holds.",
    "leaktest": "Look whether what people say leaks into anything that is written.",
    "keys": "Make and look after the keyset.",
    "policy": "Say what is kept and why, and what another policy would change.",
    "records": "Say what a controller must be able to show: of processing, and of training.",
    "restore": "Bring back what was kept, without forgetting what has happened since.",
    "retention": "Say what is kept on which ground, and whether anything is overdue.",
    "serve": "Run the proxy.",
    "store": "Look after the embedded store.",
    "subject": "Record what happens to a person's account, hand out what is held of them, erase them.",
    "transcripts": "List and read what is kept.",
    "turn": "Flag a turn for safety, and lift the flag.",
}


class _Verbs(click.Group):
    """A group whose commands are imported when they are called: each in the file of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"chatproxy.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_VERBS.items()))


@click.group(cls=_Verbs)
@click.version_option(__version__)
def cli() -> None:
    """Keep chatbot conversations as long, and for what, each person has agreed to."""


def main() -> NoReturn:
    """Run the command line; what goes wrong is said in one place."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ChatproxyError as error:
        click.echo(f"chatproxy: {error}", err=True)
        sys.exit(1)
    sys.exit(0)
