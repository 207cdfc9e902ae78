"""Plant words in everything that passes through chatproxy, make it fail and crash, and look for them where it writes."""

import asyncio
import sys
import tempfile
from pathlib import Path

import click

from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json
from chatproxy.leaks.report import Report, look_for_leaks
from chatproxy.telemetry import configure_logging

_FOUND_FAULTS = 3


@click.command()
@as_json_option
def leaktest(*, as_json: bool) -> None:
    """Look whether anything of what people say stays readable where chatproxy writes.

    Runs a `chatproxy serve` of its own with a demo backend in a temporary directory, and touches nothing else. Exit code
    0 if nothing was found, 3 if something was: where and in which form is told, and never what stands around it.
    """
    configure_logging("critical")  # its backend breaks off on purpose, which the server logs
    with tempfile.TemporaryDirectory(prefix="chatproxy-leaktest-") as directory:
        report = asyncio.run(look_for_leaks(Path(directory)))
    tell(report, as_json=as_json)
    if report.hits:
        sys.exit(_FOUND_FAULTS)


def tell(report: Report, *, as_json: bool) -> None:
    """Say what came of it."""
    looked = report.looked
    if as_json:
        for hit in report.hits:
            print_json({"leak": hit.name, "form": hit.form, "where": hit.where})
        print_json(
            {
                "canaries": report.canaries,
                "done": list(report.done),
                "places": looked.places,
                "bytes": looked.size,
                "streams": looked.streams,
                "leaks": len(report.hits),
            }
        )
        return
    for hit in report.hits:
        click.echo(f"LEAK  {hit.name}, {hit.form}: {hit.where}")
    click.echo(
        f"{report.canaries} canaries, {len(report.done)} things done, {looked.places} files and readings of "
        f"{looked.size / (1 << 20):.1f} MiB looked at, {looked.streams} compressed streams opened: "
        f"{len(report.hits) or 'no'} {'leak' if len(report.hits) == 1 else 'leaks'}"
    )
