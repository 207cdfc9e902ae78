"""Show the settings and where each comes from."""

import dataclasses

import click

from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json, print_table
from chatproxy.settings import PREFIX, Settings, load_settings, shown


@click.group()
def config() -> None:
    """Show the settings and where each comes from."""


@config.command()
@as_json_option
def show(*, as_json: bool) -> None:
    """Show the effective settings. Values of secrets are hidden."""
    loaded = load_settings()
    rows = [
        (PREFIX + field.name.upper(), shown(loaded.settings, field.name), loaded.sources[field.name])
        for field in dataclasses.fields(Settings)
    ]
    if as_json:
        for name, value, source in rows:
            print_json({"setting": name, "value": value, "source": source})
    else:
        print_table(("setting", "value", "from"), rows)
