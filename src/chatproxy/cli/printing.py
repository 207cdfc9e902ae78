"""How commands print: a table for a person, one JSON object a line for a program."""

import json
from collections.abc import Iterable, Mapping, Sequence

import click


def print_json(row: Mapping[str, object]) -> None:
    """Print one object on one line."""
    click.echo(json.dumps(row, ensure_ascii=True))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a heading, as wide as they need. Control characters are shown, never sent to the terminal."""
    cells = [[_cell(value) for value in row] for row in ([column.upper() for column in columns], *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """Return *text* with what could steer a terminal escaped; line ends stay."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value)).replace("\n", " ")
