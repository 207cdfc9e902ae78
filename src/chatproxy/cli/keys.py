"""Which keys does this deployment start from? Commands on the keyset; none shows a byte of a key."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from chatproxy.clock import wall_clock
from chatproxy.consent.receipts import write_public_keys
from chatproxy.crypto.keyset import Keyset, make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.policy.instants import format_instant
from chatproxy.settings import load_settings

_COLUMNS = ("purpose", "version", "status", "created_at")


@click.group()
def keys() -> None:
    """Make and look after the keyset."""


@keys.command()
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="Where to make it, instead of where CHATPROXY_KEYSET says.",
)
def init(path: Path | None) -> None:
    """Make the first keyset. A file that is there already is never touched."""
    overrides = {} if path is None else {"keyset": f"file:{path}"}
    file = _keyset_file(overrides)
    keyset = make_keyset(created_at=wall_clock())
    file.create(keyset)
    click.echo(f"Made keyset {keyset.id} in {file.path} (mode 0600).")
    click.echo(
        "Keep a copy of this file, apart from every backup of the data directory and of the store: whoever has both "
        "can read every conversation, and whoever has lost it can read none."
    )


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def status(*, as_json: bool) -> None:
    """Show the keyset's purposes, versions, their status and age."""
    file = _keyset_file({})
    keyset = file.load()
    if as_json:
        for row in _rows(keyset):
            click.echo(json.dumps({"keyset": keyset.id, **row}))
        return
    click.echo(f"Keyset {keyset.id} in {file.path}")
    for cells in (_COLUMNS, *(tuple(str(row[name] or "-") for name in _COLUMNS) for row in _rows(keyset))):
        click.echo("  {:<12}{:<9}{:<11}{}".format(*cells))


@keys.command()
def public() -> None:
    """Print the public keys that verify receipts, as a JWK Set; they may be given to anyone."""
    click.echo(write_public_keys(_keyset_file({}).load().signing_publics()))


def _keyset_file(overrides: Mapping[str, str]) -> KeysetFile:
    settings = load_settings(overrides=overrides).settings
    return KeysetFile.from_url(settings.keyset, data_dir=Path(settings.data_dir))


def _rows(keyset: Keyset) -> Iterator[dict[str, str | int | None]]:
    """Give one row a key version. Pseudonyms have no versions: their key is for ever."""
    for purpose, entries in keyset.versioned().items():
        for entry in entries:
            yield {
                "purpose": purpose,
                "version": entry.version,
                "status": entry.status.value,
                "created_at": format_instant(entry.created_at),
            }
    yield {
        "purpose": "pseudonyms",
        "version": None,
        "status": "PRIMARY",
        "created_at": format_instant(keyset.pseudonyms.created_at),
    }
