"""Look after the embedded store."""

from pathlib import Path

import click

from chatproxy.cli.people import confirm, yes_option
from chatproxy.clock import wall_clock
from chatproxy.disk.directory import private_directory
from chatproxy.errors import ConfigurationError
from chatproxy.policy.instants import format_instant
from chatproxy.settings import load_settings
from chatproxy.store.clock_seen import ClockSeen
from chatproxy.store.opening import EMBEDDED


@click.group()
def store() -> None:
    """Look after the embedded store."""


@store.command("accept-clock")
@yes_option
def accept_clock(*, is_said: bool) -> None:
    """Say that this machine's clock is right though the embedded store has rested for long, so that it starts.

    A proxy that waits for that goes on by itself. What has expired meanwhile goes then.
    """
    settings = load_settings().settings
    if settings.store != EMBEDDED:
        raise click.UsageError("this is for the embedded store; a server of your own has its own clock")
    directory = Path(settings.data_dir) / "store"
    clock_seen, now = ClockSeen(directory), wall_clock()
    seen = clock_seen.last()
    if (
        seen is None
        or clock_seen.doubt(now, longest_pause_ms=int(settings.store_longest_pause * 1000)) is None
    ):
        click.echo("Nothing is held up by the clock.")
        return
    click.echo(
        f"This machine's clock says {format_instant(now)}.\nThe store was last used {format_instant(seen)}."
    )
    confirm("Is the clock right? What has expired by it goes.", is_said=is_said)
    private_directory(directory)  # a file of another user would tell whoever serves nothing
    try:
        clock_seen.note(now)
    except OSError as error:
        raise ConfigurationError(f"{settings.data_dir}/store cannot be written: {error.strerror}") from error
    click.echo("The store is started by whoever serves, or by the next command.")
