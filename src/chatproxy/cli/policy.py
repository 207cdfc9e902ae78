"""What does the policy say: about given facts, about a turn, about all that is kept? The commands, and the first."""

import json
import sys
from collections.abc import Iterable, Iterator

import click

from chatproxy.cli.explain import explain
from chatproxy.cli.preview import apply, preview
from chatproxy.cli.replay import replay
from chatproxy.policy.engine import decide
from chatproxy.policy.schema import decision_to_json, facts_from_json, profile_from_json
from chatproxy.settings import load_settings


class BadLineError(click.ClickException):
    """A line of input cannot be read. The lines before it have been answered."""

    exit_code = 2

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"line {number}: {problem}")


@click.group()
def policy() -> None:
    """Say what is kept and why, and what another policy would change."""


policy.add_command(explain)
policy.add_command(preview)
policy.add_command(apply)
policy.add_command(replay)


@policy.command()
def evaluate() -> None:
    """Decide about facts given as JSON lines on standard input.

    Each line is an object {"facts": …, "profile": …}; other keys are passed over, and so are empty lines. Facts
    need at least turn_at and now. The profile is an object or a name (standard, strict); without one it is
    that of the settings. The periods are those of the settings. The outcome of each line is written as one line of JSON,
    in the same order.

    The first line that cannot be read ends the command with exit code 2; the lines before it are answered.
    """
    for outcome in _outcomes(sys.stdin.buffer):
        click.echo(outcome)


def _outcomes(lines: Iterable[bytes]) -> Iterator[str]:
    settings = load_settings().settings
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            case = _read_case(line)
            facts = facts_from_json(case.get("facts"))
            given = case.get("profile")
            profile = settings.profile if given is None else profile_from_json(given)
        except ValueError as error:
            raise BadLineError(number, str(error)) from None
        yield json.dumps(decision_to_json(decide(facts, profile, settings.periods)))


def _read_case(line: bytes) -> dict[str, object]:
    try:
        case = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError('not JSON; must be an object {"facts": …, "profile": …}') from None
    if not isinstance(case, dict):
        raise ValueError('must be an object {"facts": …, "profile": …}')  # noqa: TRY004
    return case
