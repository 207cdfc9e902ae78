"""Say what a controller must be able to show: of processing, and of training."""

from collections.abc import Callable
from datetime import timedelta

import click

from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json, printable
from chatproxy.cli.vault import in_vault
from chatproxy.vault import Vault
from chatproxy.workflows.controller_records import (
    Circumstances,
    Record,
    ai_act as ai_act_record,
    as_markdown,
    california as california_record,
    processing as processing_record,
)
from chatproxy.workflows.dataset_figures import dataset_figures


@click.group()
def records() -> None:
    """Say what a controller must be able to show: of processing, and of training.

    As Markdown to be read, or with --json as one object. What only the company can know is named and left open.
    """


@records.command()
@as_json_option
def processing(*, as_json: bool) -> None:
    """The record of processing activities (GDPR Art. 30)."""
    _print("Record of processing activities", processing_record, as_json=as_json)


@records.command("ai-act")
@as_json_option
def ai_act(*, as_json: bool) -> None:
    """The user-data part of the summary of training content (AI Act Art. 53(1)(d)), from the datasets."""
    _print("User data in training", ai_act_record, as_json=as_json)


@records.command()
@as_json_option
def california(*, as_json: bool) -> None:
    """The documentation of training data (California AB 2013), from the datasets."""
    _print("Training data documentation", california_record, as_json=as_json)


def _print(title: str, made: Callable[[Circumstances], Record], *, as_json: bool) -> None:
    record = made(in_vault(_circumstances))
    if as_json:
        print_json(record)
    else:
        click.echo(printable(as_markdown(title, record)), nl=False)


async def _circumstances(vault: Vault) -> Circumstances:
    now = vault.clock()
    return Circumstances(
        at=now,
        controller=vault.controller,
        periods=vault.policy.periods,
        profile=vault.policy.profile,
        policy=vault.terms.to_choose_about(now),
        erasure_horizon_days=timedelta(milliseconds=vault.settings.erasure_horizon.length).days,
        keyset=vault.source.name.partition(":")[0],
        datasets=await dataset_figures(vault.lineage),
    )
