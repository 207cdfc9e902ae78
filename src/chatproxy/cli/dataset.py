"""Export what may be used for a purpose, check it, and take it back."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from chatproxy.audit.log import LOG_NAME
from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault, read_keyset
from chatproxy.consent.receipts import read_public_keys
from chatproxy.crypto.dataset_names import read_dataset, read_item
from chatproxy.datasets.manifest import Manifest, Shard
from chatproxy.datasets.tables import Form, require_parquet
from chatproxy.errors import ConfigurationError
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.ports import DatasetFiles
from chatproxy.settings import load_settings
from chatproxy.vault import Vault, audit_directory
from chatproxy.workflows.dataset_address import dataset_files
from chatproxy.workflows.dataset_directory import DatasetDirectory
from chatproxy.workflows.export import Wish
from chatproxy.workflows.export_gate import FAULTS, GROUNDS
from chatproxy.workflows.export_run import Progress
from chatproxy.workflows.recall import Recall, Recalls, shown
from chatproxy.workflows.tombstones import Tombstone, read_tombstones
from chatproxy.workflows.verify_dataset import DatasetFault, FilesVerifier, Looked

_FOUND_FAULTS = 3
_MOST_SHARDS = 9999
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def dataset() -> None:
    """Export what may be used for a purpose, check it, and take it back."""


def _read_shard(_: click.Context, __: click.Parameter, value: str) -> Shard:
    number, _slash, of = value.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of) <= _MOST_SHARDS):
        raise click.BadParameter(f"must be NUMBER/OF such as 1/4, of at most {_MOST_SHARDS}")
    return Shard(int(number), int(of))


def _read_instant(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _read_consumer(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.strip() or len(value) > 200 or not value.isprintable():  # noqa: PLR2004 - as long as a name may be
        raise click.BadParameter("must be a name of at most 200 characters")
    return value.strip()


def _read_address(_: click.Context, __: click.Parameter, value: str) -> DatasetFiles:
    return dataset_files(value)


def _read_dataset(_: click.Context, __: click.Parameter, value: str) -> DatasetFiles:
    files = dataset_files(value)
    if isinstance(files, DatasetDirectory) and not files.path.is_dir():
        raise click.BadParameter(f"{files.path} is no directory")
    return files


_dataset_argument = click.argument("files", metavar="DIR|URL", callback=_read_dataset)


@dataset.command()
@click.option(
    "--purpose", required=True, type=click.Choice(sorted(GROUNDS)), help="What it is to be used for."
)
@click.option(
    "--consumer",
    required=True,
    callback=_read_consumer,
    help="Who gets it; stands in the manifest and the audit log.",
)
@click.option(
    "--out",
    "files",
    metavar="DIR|URL",
    required=True,
    callback=_read_address,
    help="Where it goes: a directory, or a prefix of a bucket such as s3://bucket/may-set.",
)
@click.option(
    "--format",
    "form",
    default="jsonl",
    show_default=True,
    type=click.Choice([str(each) for each in Form]),
    help="Of its files.",
)
@click.option(
    "--shard",
    default="1/1",
    show_default=True,
    callback=_read_shard,
    help="Only this part of the people: NUMBER/OF.",
)
@click.option(
    "--at",
    callback=_read_instant,
    help="The instant to export as of. All shards need the same; default: now.",
)
@click.option(
    "--log", "logs", multiple=True, type=_FILE, help="An audit log beside this node's own; repeatable."
)
@as_json_option
def export(
    purpose: str,
    consumer: str,
    files: DatasetFiles,
    form: str,
    shard: Shard,
    at: int | None,
    logs: tuple[Path, ...],
    *,
    as_json: bool,
) -> None:
    """Export every turn that may be used for the purpose, redacted and without the person, with a signed manifest.

    Each turn is decided on again, now. One that is interrupted goes on when it is called again with the same --out. Exit
    code 3 if turns were left out because they are not as they were kept.
    """
    if Form(form) is Form.PARQUET:
        require_parquet()
    if shard.of > 1 and at is None:
        raise click.UsageError("shards are parts of one dataset, so each needs the same --at")
    stones = _stones(logs)

    async def work(vault: Vault) -> Manifest:
        wish = Wish(purpose=purpose, consumer=consumer, form=Form(form), shard=shard, at=at)
        return await vault.exporter(purpose, stones).export(wish, files, told=_Bar())

    manifest = in_vault(work)
    if as_json:
        print_json(
            {
                "dataset": manifest.dataset,
                "run": manifest.run,
                "items": manifest.items,
                "turns": manifest.turns,
                "exported_at": format_instant(manifest.at),
                "left_out": dict(manifest.left_out),
                "redacted": dict(manifest.redacted),
            }
        )
    else:
        click.echo(
            f"{manifest.items} items of {manifest.turns} turns in {files.shown()}, as dataset {manifest.dataset}."
        )
        for reason, number in sorted(manifest.left_out.items()):
            click.echo(f"  left out: {reason} {number}")
        for kind, number in sorted(manifest.redacted.items()):
            click.echo(f"  redacted: {kind} {number}")
    if faulty := sum(number for reason, number in manifest.left_out.items() if reason in FAULTS):
        click.echo(
            f"chatproxy: {faulty} turns are not as they were kept and were left out; see `chatproxy transcripts verify`",
            err=True,
        )
        sys.exit(_FOUND_FAULTS)


class _Bar:
    """Tells on a terminal how far it is."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        if self._is_shown:
            click.echo(
                f"\r{progress.turns} turns looked at, {progress.items} items in {progress.parts} parts",
                err=True,
                nl=False,
            )


@dataset.command()
@_dataset_argument
@click.option("--offline", is_flag=True, help="Look at the files alone: nothing is led back to the store.")
@click.option(
    "--keys",
    "public_keys",
    type=_FILE,
    help="Public keys, from `chatproxy keys public`; with --offline no keyset is needed.",
)
@as_json_option
def verify(files: DatasetFiles, public_keys: Path | None, *, offline: bool, as_json: bool) -> None:
    """See that files and manifest fit each other, and that every item was allowed. Changes nothing.

    Exit code 3 with a line for each fault.
    """
    publics = (
        read_keyset().signing_publics()
        if public_keys is None
        else read_public_keys(public_keys.read_text(encoding="utf-8"), source=str(public_keys))
    )
    verifier = FilesVerifier(files, publics)
    faults = list(verifier.faults())
    if not offline and verifier.manifests:

        async def work(vault: Vault) -> list[DatasetFault]:
            return await vault.lineage_verifier.faults(verifier.manifests[0], verifier.looked)

        faults += in_vault(work)
    for fault in faults:
        if as_json:
            print_json({"fault": fault.reason, "where": fault.where})
        else:
            click.echo(f"NOT AS EXPORTED: {fault.reason}: {fault.where}")
    if not as_json:
        click.echo(_in_words(verifier.looked, offline=offline))
    if faults:
        sys.exit(_FOUND_FAULTS)


@dataset.command()
@_dataset_argument
@click.option(
    "--log", "logs", multiple=True, type=_FILE, help="An audit log beside this node's own; repeatable."
)
@as_json_option
def recall(files: DatasetFiles, logs: tuple[Path, ...], *, as_json: bool) -> None:
    """List the items that are to be taken out of a dataset, a line an item, those that are acknowledged too.

    Exit code 3 if one was not acknowledged in time (CHATPROXY_RECALL_DEADLINE).
    """
    stones = _stones(logs)
    name, held = _held(files)

    async def work(vault: Vault) -> list[tuple[Recall, bool]]:
        await asyncio.to_thread(vault.audit.append, "dataset.recall", {"dataset": "d_" + name.hex()})
        recalls: Recalls = vault.recalls(stones)
        found = [each async for each in recalls.of_dataset(name, held)]
        return [(each, recalls.is_overdue(each.what)) for each in sorted(found, key=lambda each: each.item)]

    found = in_vault(work)
    for each, is_overdue in found:
        if as_json:
            print_json(shown(each) | {"overdue": is_overdue})
        else:
            line = shown(each)
            state = "acknowledged" if line["acknowledged_at"] else "OVERDUE" if is_overdue else "open"
            click.echo(f"{line['item']} {line['reason']} {state}")
    if any(is_overdue for _, is_overdue in found):
        click.echo("chatproxy: recalled items were not acknowledged in time", err=True)
        sys.exit(_FOUND_FAULTS)


@dataset.command()
@_dataset_argument
@click.option(
    "--items",
    type=click.File(encoding="utf-8"),
    help="Only these, an item a line, as `dataset recall` names them; - reads them from standard input.",
)
@as_json_option
def acknowledge(files: DatasetFiles, items: Iterable[str] | None, *, as_json: bool) -> None:
    """Say that the recalled items are out of wherever the consumer had them."""
    try:
        chosen = None if items is None else [read_item(line.split()[0]) for line in items if line.strip()]
    except ValueError:
        raise click.BadParameter("a line does not begin with the name of an item") from None
    name, _ = _held(files)

    async def work(vault: Vault) -> int:
        count = await vault.recalls().acknowledge(name, chosen)
        await asyncio.to_thread(
            vault.audit.append, "dataset.acknowledge", {"dataset": "d_" + name.hex(), "items": count}
        )
        return count

    count = in_vault(work)
    if as_json:
        print_json({"acknowledged": count})
    else:
        click.echo(f"{count} items acknowledged.")


def _stones(logs: tuple[Path, ...]) -> list[Tombstone]:
    own = audit_directory(load_settings().settings) / LOG_NAME
    return read_tombstones([*([own] if own.exists() else []), *logs], since=0)


def _held(files: DatasetFiles) -> tuple[bytes, list[bytes]]:
    """Return the name of a dataset and of its items. Raises ConfigurationError where its files are not as exported."""
    verifier = FilesVerifier(files, read_keyset().signing_publics())
    faults = [fault for fault in verifier.faults() if fault.reason != "shard_missing"]
    if faults:
        raise ConfigurationError(
            f"{files.shown()} is not as it was exported ({faults[0].reason}: {faults[0].where}); see `chatproxy dataset verify`"
        )
    return read_dataset(verifier.manifests[0].dataset), list(verifier.looked.names)


def _in_words(looked: Looked, *, offline: bool) -> str:
    words = f"{looked.items} items in {looked.files} files."
    if offline:
        return words
    return f"{words} {looked.proved} were allowed; {looked.unproved} cannot be led back any more."
