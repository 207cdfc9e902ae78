"""Say what another policy would do to all that is kept, and bring what is kept under the present one."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import click

from chatproxy.cli.people import as_json_option, confirm, yes_option
from chatproxy.cli.printing import print_json, print_table, printable
from chatproxy.cli.vault import in_vault
from chatproxy.errors import ChatproxyError
from chatproxy.settings import PREFIX, Settings, load_settings
from chatproxy.telemetry import Redecided
from chatproxy.vault import Vault
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.preview import Applied, Effect, Forecast

_FOUND_FAULTS = 3
_PERIODS = tuple(
    field.name.removeprefix("retention_") for field in fields(Settings) if field.name.startswith("retention_")
)
_STEP = 1000
"""It is told after every so many people."""


class UnfinishedError(ChatproxyError):
    """Not every turn could be decided on."""


def _read_periods(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    periods = {}
    for value in values:
        name, _equals, period = value.partition("=")
        if name not in _PERIODS or not period:
            raise click.BadParameter(f"must be NAME=PERIOD such as service=10d; names: {', '.join(_PERIODS)}")
        periods[f"retention_{name}"] = period
    return periods


@click.command()
@click.option(
    "--profile", help="Look at this profile: its name, or a JSON file, as CHATPROXY_POLICY_PROFILE takes."
)
@click.option(
    "--period",
    "periods",
    multiple=True,
    callback=_read_periods,
    help="Look at this period, as NAME=PERIOD: service=10d stands for CHATPROXY_RETENTION_SERVICE=10d; repeatable.",
)
@as_json_option
def preview(profile: str | None, periods: Mapping[str, str], *, as_json: bool) -> None:
    """Say what the present settings, or others, would do to all that is kept. Nothing is written.

    Others are given by --profile and --period, which stand in for those settings here alone: `policy apply` takes
    neither, and applies what is set.
    """
    others = dict(periods) | ({"policy_profile": profile} if profile is not None else {})
    settings = load_settings(overrides=others).settings
    policy = Policy(settings.profile, settings.periods)

    async def work(vault: Vault) -> Forecast:
        with_progress = _progress("looked at")
        return await vault.applier.preview(policy, told=with_progress)

    forecast = in_vault(work)
    _show(forecast, policy, as_json=as_json)
    if not as_json and others:
        names = ", ".join(f"{PREFIX}{name.upper()}" for name in sorted(others))
        click.echo(f"`chatproxy policy apply` does not do this before it is set: {names}.")
    _end(forecast.faulty)


@click.command()
@yes_option
@as_json_option
def apply(*, is_said: bool, as_json: bool) -> None:
    """Bring all that is kept under the policy of the settings, as far as that is stricter; previewed and confirmed.

    Each turn is decided again under what its own policy and the present one both allow: nothing is kept longer, and
    nothing becomes eligible. What is erased is gone for good. It can be broken off and run again.
    """
    asked = "Apply this? What is erased is gone for good."

    async def work(vault: Vault) -> tuple[Forecast, Applied | None]:
        forecast = await vault.applier.preview(vault.policy, told=_progress("looked at"))
        _show(forecast, vault.policy, as_json=as_json)
        if not forecast.moved:
            return forecast, None
        confirm(asked, is_said=is_said)
        return forecast, await vault.applier.apply(forecast, told=_progress("decided again"))

    forecast, applied = in_vault(work)
    if applied is None:
        if not as_json:
            click.echo("There is nothing to apply.")
        _end(forecast.faulty)
        return
    turns = applied.turns
    if as_json:
        print_json({"applied": True, "people": applied.people, **{str(name): turns[name] for name in turns}})
    else:
        click.echo(
            f"Applied to {applied.people} people: {turns[Redecided.CHANGED]} turns changed, "
            f"{turns[Redecided.ERASED]} erased, {turns[Redecided.UNCHANGED]} as they were."
        )
    if applied.unsettled:
        raise UnfinishedError(
            f"of {applied.unsettled} people not every turn could be decided on: their ledgers are damaged or kept "
            "changing; run it again, and see `chatproxy policy replay`"
        )
    _end(turns[Redecided.FAULTY])


def _show(forecast: Forecast, policy: Policy, *, as_json: bool) -> None:
    if as_json:
        for row in _rows(forecast):
            print_json(row)
        print_json(
            {
                "total": _counts(forecast.total),
                "people": forecast.people,
                "turns": forecast.turns,
                "moved": forecast.moved,
                "faulty": forecast.faulty,
                "policy": {"name": policy.profile.name, "digest": policy.digest},
            }
        )
        return
    click.echo(f"Under the policy {printable(policy.profile.name)}, {policy.digest}:")
    if forecast.effects:
        columns = ("reason", "then", "turns", "sooner", "at_once", "lose_eligibility", "bytes")
        print_table(
            [column.replace("_", " ") for column in columns], [list(row.values()) for row in _rows(forecast)]
        )
    total = forecast.total
    click.echo(
        f"Of {forecast.turns} turns of {forecast.people} people, {total.turns} would change: {total.sooner} expire "
        f"sooner, {total.at_once} of them at once; {total.lose_eligibility} lose eligibility; {total.bytes} bytes."
    )
    if unchanged := forecast.moved - total.turns:
        click.echo(f"For {unchanged} more it makes a difference only if something happens to them later.")


def _rows(forecast: Forecast) -> Iterator[dict[str, Any]]:
    for (reason, then), effect in sorted(forecast.effects.items()):
        yield {"reason": reason, "then": then, **_counts(effect)}


def _counts(effect: Effect) -> dict[str, int]:
    return {
        "turns": effect.turns,
        "sooner": effect.sooner,
        "at_once": effect.at_once,
        "lose_eligibility": effect.lose_eligibility,
        "bytes": effect.bytes,
    }


def _progress(done: str) -> Callable[[int], None]:
    """Tell on a terminal how far it is."""
    if not sys.stderr.isatty():
        return lambda _: None

    def tell(people: int) -> None:
        if people % _STEP == 0:
            click.echo(f"{people} people {done}", err=True)

    return tell


def _end(faulty: int) -> None:
    if faulty:
        click.echo(
            f"chatproxy: {faulty} turns or ledgers are not as they were kept, and are left as they are; "
            "`chatproxy transcripts list` names them",
            err=True,
        )
        sys.exit(_FOUND_FAULTS)
