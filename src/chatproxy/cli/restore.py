"""Bring back what was kept, without forgetting what has happened since."""

import asyncio
from pathlib import Path

import click

from chatproxy.audit.log import LOG_NAME
from chatproxy.cli.happened import operator
from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json
from chatproxy.errors import ConfigurationError
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.settings import load_settings
from chatproxy.store.backup import declare_up_to_date, lay_down
from chatproxy.store.opening import EMBEDDED
from chatproxy.telemetry import configure_logging
from chatproxy.vault import audit_directory, bring_up_to_date


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--since", help="Restore nothing: only do again what has happened since this instant (RFC 3339)."
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An audit log beside this node's own: of another node, or a copy; repeatable.",
)
@click.option("--without-log", is_flag=True, help="There is no audit log any more; restore all the same.")
@as_json_option
def restore(
    directory: Path | None, since: str | None, logs: tuple[Path, ...], *, without_log: bool, as_json: bool
) -> None:
    """Restore the embedded store from DIRECTORY, and do again what was erased, deleted and taken back since.

    Until that is done nothing else opens the store. With --since, for a store that was restored by other means.
    """
    if (directory is None) == (since is None):
        raise click.UsageError("give either the backup's DIRECTORY or --since")
    settings = load_settings().settings
    configure_logging("error")
    own = audit_directory(settings) / LOG_NAME
    found = [*([own] if own.exists() else []), *logs]
    if not found and not without_log:
        raise ConfigurationError(
            f"there is no audit log at {own}, so nobody knows what has happened since the backup. Give a copy with "
            "--log, or say --without-log"
        )
    if since is not None:
        at = _instant(since)
    else:
        assert directory is not None  # noqa: S101 - one of both is given
        if settings.store != EMBEDDED:
            raise click.UsageError(
                "a store of your own is restored by its own means; then run this with --since"
            )
        at = lay_down(directory, Path(settings.data_dir) / "store").taken_at
    done = asyncio.run(bring_up_to_date(settings, found, since=at, by=operator().by))
    if since is None:
        declare_up_to_date(Path(settings.data_dir) / "store")
    if as_json:
        print_json({"since": format_instant(at), "erased": done.erased, "events": done.events})
    else:
        click.echo(
            f"As of {format_instant(at)}, with what has happened since: {done.erased} people erased again, "
            f"{done.events} events written again."
        )


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError:
        raise click.UsageError("--since takes an instant such as 2026-11-23T04:00:00Z") from None
