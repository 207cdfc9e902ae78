"""``chatproxy keys reseal``: seal anew what keys that have leaked could open."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self, TypeVar

import click

from chatproxy.audit.log import operating_user
from chatproxy.cli.people import as_json_option, read_subject, yes_option
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault
from chatproxy.policy.instants import format_instant
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault
from chatproxy.workflows.replace_keys import Pace, Replacement, ReplacementState, Scope, Survey
from chatproxy.workflows.roll import Rolled
from chatproxy.workflows.rotate import NotYetError

_LOOK_AGAIN_SECONDS = 1.0
_FOUND_FAULTS = 3
_OF_ONE = "subject"
_RECORDS_A_SECOND = 500
"""As measured on two busy cores (docs/performance.md)."""
T = TypeVar("T")


@click.command()
@click.option(
    "--scope",
    required=True,
    help="What has leaked: all, kek:VERSION, day:YYYY-MM-DD or days:FIRST..LAST (of expiry), or subject.",
)
@click.option("--subject", callback=read_subject, help="With --scope subject: whose key; - reads it.")
@click.option("--tenant", default="default", show_default=True, help="The tenant of --subject.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Records a second at most.")
@click.option("--wait", is_flag=True, help="Where a step has to wait, wait for it.")
@click.option("--dry-run", is_flag=True, help="Count, and say how long it takes; change nothing.")
@click.option("--abort", is_flag=True, help="Give up what is under way; what was sealed anew stays so.")
@click.option(
    "--abandon-damaged", type=int, default=0, help="How many records that do not open may be given up."
)
@yes_option
@as_json_option
def reseal(
    scope: str,
    subject: str | None,
    tenant: str,
    *,
    rate: float | None,
    wait: bool,
    dry_run: bool,
    abort: bool,
    abandon_damaged: int,
    is_said: bool,
    as_json: bool,
) -> None:
    """Seal anew, under new keys, whatever keys that have leaked could open, and destroy those keys.

    No expiry moves, chats go on, and what is written meanwhile is kept. Where a step has to wait, the command says for what
    and ends with exit code 0; run it again later. It can be interrupted at any time, and run by anybody else.
    """
    if (scope == _OF_ONE) != (subject is not None):
        raise click.UsageError("--scope subject and --subject go together")
    if subject is not None:
        _one(subject, tenant, rate=rate, dry_run=dry_run, as_json=as_json)
        return
    wanted = Scope.parse(scope)
    if dry_run:
        _say_survey(_with(lambda work: work.survey(wanted)), rate=rate, as_json=as_json)
    elif abort:
        if not is_said:
            click.confirm("The old keys stay. Go on?", abort=True, err=True)
        _with(lambda work: work.abort())
        _say(
            {"step": "aborted"},
            "It was given up; the old keys stay in use for what lies under them.",
            as_json,
        )
    else:
        waiting = _with(
            lambda work: _advance(work, wanted, wait=wait, abandon_damaged=abandon_damaged, as_json=as_json),
            rate=rate,
        )
        if waiting is not None:
            _say({"waiting": str(waiting)}, f"Not yet: {waiting}.", as_json)


async def _advance(
    work: Replacement, scope: Scope, *, wait: bool, abandon_damaged: int, as_json: bool
) -> NotYetError | None:
    await work.begin(scope)
    while True:
        try:
            state = await work.advance(abandon_damaged=abandon_damaged)
        except NotYetError as waiting:
            if not wait:
                return waiting
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            continue
        _say_step(state, as_json=as_json)
        if state.is_over:
            return None


def _one(subject: str, tenant: str, *, rate: float | None, dry_run: bool, as_json: bool) -> None:
    """Give one person a new key."""

    async def work(vault: Vault) -> Rolled | Survey:
        tag = vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)
        if dry_run:
            turns = [turn async for turn in vault.store.annotations(tag)]
            return Survey(people=1 if turns else 0, records=len(turns))
        async with _as_node(vault):
            with _Progress() as progress:
                return await vault.replacement(
                    by=operating_user(), pace=Pace(rate=rate, progress=progress)
                ).person(tag)

    done = in_vault(work)
    if isinstance(done, Survey):
        _say_survey(done, rate=rate, as_json=as_json)
        return
    _say(
        {"records": done.records, "damaged": done.lost, "generations_destroyed": list(done.generations)},
        f"Sealed {done.records} records anew; {done.lost} turns do not open. "
        f"Destroyed keys of the person: {len(done.generations)}.",
        as_json,
    )
    if done.lost:
        sys.exit(_FOUND_FAULTS)


class _Progress:
    """Shows on a terminal how many records were sealed anew."""

    def __init__(self) -> None:
        self._records = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, records: int) -> None:
        self._records += records
        if sys.stderr.isatty():
            click.echo(f"\r{self._records} records", nl=False, err=True)

    def __exit__(self, *_: object) -> None:
        if self._records and sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)


def _say_survey(found: Survey, *, rate: float | None, as_json: bool) -> None:
    seconds = found.records / min(rate or _RECORDS_A_SECOND, _RECORDS_A_SECOND)
    _say(
        {"people": found.people, "records": found.records, "seconds": round(seconds, 1)},
        f"{found.people} people get a new key, and {found.records} records would be sealed anew: some "
        f"{seconds:.0f} s at {min(rate or _RECORDS_A_SECOND, _RECORDS_A_SECOND):g} a second.",
        as_json,
    )


def _say_step(state: ReplacementState, *, as_json: bool) -> None:
    _say(
        {
            "step": state.step,
            "at": format_instant(state.step_at),
            "records": state.records,
            "damaged": state.damaged,
        },
        f"{format_instant(state.step_at)}  {state.step}"
        + (f"  {state.records} records" if state.records else "")
        + (f", {state.damaged} do not open" if state.damaged else ""),
        as_json,
    )


def _say(found: dict[str, object], text: str, as_json: bool) -> None:  # noqa: FBT001 - one of two forms
    if as_json:
        print_json(found)
    else:
        click.echo(text)


@contextlib.asynccontextmanager
async def _as_node(vault: Vault) -> AsyncIterator[None]:
    """Have this process be a node meanwhile: it wraps keys for hours, so a rotation must wait for it as for the others."""
    watch = vault.ring_watch(Metrics(), node=f"{vault.settings.node}-reseal")
    await watch.look()
    background = Background(logging.getLogger("chatproxy.background"))
    background.spawn(watch.run(), name="key-ring")
    background.spawn(watch.hear(), name="key-ring-changes")  # also what this process itself has changed
    try:
        yield
    finally:
        await background.aclose()
        await watch.leave()


def _with(do: Callable[[Replacement], Awaitable[T]], *, rate: float | None = None) -> T:
    async def run(vault: Vault) -> T:
        async with _as_node(vault):
            with _Progress() as progress:
                return await do(
                    vault.replacement(by=operating_user(), pace=Pace(rate=rate, progress=progress))
                )

    return in_vault(run)
