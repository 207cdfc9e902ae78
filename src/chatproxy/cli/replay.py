"""Make past decisions again, and report those that come out otherwise."""

import sys
from collections.abc import Iterator

import click
import msgspec

from chatproxy.cli.people import as_json_option, read_subject
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault
from chatproxy.vault import Vault
from chatproxy.workflows.replay import Difference

_FOUND_FAULTS = 3
_COMPARED = ("reason", "expires_at", "grounds", "eligible", "also")


@click.command()
@click.option(
    "--subject", callback=read_subject, help="Only of this person; - reads the id from standard input."
)
@click.option("--tenant", default="default", show_default=True, help="The tenant of --subject.")
@as_json_option
def replay(subject: str | None, tenant: str, *, as_json: bool) -> None:
    """Make each decision again as of its instant, from what it had seen, and report those that come out otherwise.

    With --json a difference a line, then the count. Exit code 3 if there is one.
    """

    async def work(vault: Vault) -> tuple[int, int]:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject) if subject else None
        same, turns = 0, set()
        async for found in vault.replay.walk(tag):
            if isinstance(found, Difference):
                turns.add(found.turn)
                _print(vault.pseudonyms.turn_handle(found.subject, found.turn), found, as_json=as_json)
            else:
                same += 1
        return same, len(turns)

    same, different = in_vault(work)
    if as_json:
        print_json({"turns": same + different, "different": different})
    else:
        click.echo(f"Replayed {same + different} turns: {different} come out otherwise.")
    if different:
        sys.exit(_FOUND_FAULTS)


def _print(turn: str, found: Difference, *, as_json: bool) -> None:
    if as_json:
        print_json({"turn": turn, "what": found.what, "differs": dict(_differing(found))})
    elif found.noted is None:
        click.echo(f"{turn}: cannot be replayed ({found.what})")
    else:
        fields = "; ".join(f"{name}: noted {pair[0]}, replayed {pair[1]}" for name, pair in _differing(found))
        click.echo(f"{turn} ({found.noted.part}): {fields}")


def _differing(found: Difference) -> Iterator[tuple[str, list[object]]]:
    if found.noted is None or found.replayed is None:
        return
    noted, replayed = msgspec.to_builtins(found.noted), msgspec.to_builtins(found.replayed)
    for name in _COMPARED:
        if noted.get(name) != replayed.get(name):
            yield name, [noted.get(name), replayed.get(name)]
