"""List what is kept, and read it for a purpose that has a ground."""

import asyncio
import sys
from pathlib import Path

import click

from chatproxy.audit.log import LOG_NAME
from chatproxy.cli.people import as_json_option, names, read_subject
from chatproxy.cli.printing import print_json, print_table, printable
from chatproxy.cli.vault import in_vault
from chatproxy.errors import NotFoundError
from chatproxy.model import Part, PartKind
from chatproxy.policy.instants import format_instant
from chatproxy.settings import load_settings
from chatproxy.vault import Vault, audit_directory
from chatproxy.workflows.annotation_log import read_last_changes
from chatproxy.workflows.tombstones import read_tombstones
from chatproxy.workflows.transcripts import PURPOSES, KeptTurn, OpenedTurn, Spurious, summary
from chatproxy.workflows.verify_kept import Looked

_FOUND_FAULTS = 3


@click.group()
def transcripts() -> None:
    """List what is kept, and read it for a purpose that has a ground."""


@transcripts.command()
@click.option("--headers-only", is_flag=True, help="Do not open the records.")
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An audit log beside this node's own, to compare with; repeatable.",
)
@as_json_option
def verify(logs: tuple[Path, ...], *, headers_only: bool, as_json: bool) -> None:
    """Look at every row: is it as it was kept, as the ledger says, and as the audit log says? Changes nothing.

    Exit code 3 with a line for each that is not: what, whose, and which turn.
    """
    settings = load_settings().settings
    own = audit_directory(settings) / LOG_NAME
    logs = (*([own] if own.exists() else []), *logs)
    stones, changes = read_tombstones(logs, since=0), read_last_changes(logs)

    async def work(vault: Vault) -> tuple[list[dict[str, str | None]], Looked]:
        await asyncio.to_thread(vault.audit.append, "transcripts.verify", {"opens": not headers_only})
        verifier = vault.kept_verifier
        faults = [
            {
                "fault": fault.reason,
                "subject": fault.subject.hex(),
                "turn": vault.pseudonyms.turn_handle(fault.subject, fault.turn) if fault.turn else None,
            }
            async for fault in verifier.faults(stones, changes, opens=not headers_only)
        ]
        return faults, verifier.looked

    faults, looked = in_vault(work)
    for fault in faults:
        if as_json:
            print_json(fault)
        else:
            click.echo(f"NOT AS KEPT: {fault['fault']}: turn {fault['turn'] or '-'} of {fault['subject']}")
    if not as_json:
        click.echo(f"{looked.turns} turns, {looked.records} records, {looked.opened} of them opened.")
    if faults:
        sys.exit(_FOUND_FAULTS)


@transcripts.command("list")
@click.option(
    "--subject", callback=read_subject, help="Only of this person; - reads the id from standard input."
)
@click.option("--tenant", default="default", show_default=True, help="The tenant of --subject.")
@click.option("--conversation", help="Only of this one: its handle, or with --subject the client's own id.")
@as_json_option
def list_turns(subject: str | None, tenant: str, conversation: str | None, *, as_json: bool) -> None:
    """List the turns that are kept, a turn a row. Nothing is decrypted.

    Exit code 3 if a row is not authentic: its annotation was altered, or its expiry is not the one decided on.
    """

    async def work(vault: Vault) -> tuple[list[dict[str, object]], list[Spurious]]:
        tag, wanted = names(vault, subject, tenant, conversation)
        kept, faults = [], []
        async for turn in vault.transcripts.walk(subject=tag, conversation=wanted):
            if isinstance(turn, KeptTurn):
                kept.append(turn)
            else:
                faults.append(turn)
        kept.sort(key=lambda turn: turn.facts.received_at)
        return [dict(summary(turn, vault.pseudonyms)) for turn in kept], faults

    rows, faults = in_vault(work)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        _print_rows(rows)
    for fault in faults:
        click.echo(
            f"chatproxy: turn {fault.turn.hex()} of subject {fault.subject.hex()} is not as it was kept "
            f"({fault.reason}); it counts as not eligible and is not read",
            err=True,
        )
    if faults:
        sys.exit(_FOUND_FAULTS)


@transcripts.command()
@click.argument("conversation")
@click.option(
    "--subject", callback=read_subject, help="Whose, where CONVERSATION is the client's own id; - reads it."
)
@click.option("--tenant", default="default", show_default=True, help="The tenant of --subject.")
@click.option("--purpose", required=True, type=click.Choice(PURPOSES), help="What it is read for; audited.")
@as_json_option
def show(conversation: str, subject: str | None, tenant: str, purpose: str, *, as_json: bool) -> None:
    """Decrypt a conversation for a purpose that has a live ground for it.

    CONVERSATION is a handle from `transcripts list`, or the client's own id together with --subject. Each reading
    is audited; without a ground it is refused.
    """

    async def work(vault: Vault) -> list[OpenedTurn]:
        tag, wanted = names(vault, subject, tenant, conversation)
        if tag is None or wanted is None:
            raise NotFoundError("nothing is held of a conversation of that name")
        return await vault.transcripts.show(tag, wanted, purpose=purpose)

    for opened in in_vault(work):
        if as_json:
            print_json(_document(opened))
        else:
            _print_turn(opened)


def _print_rows(rows: list[dict[str, object]]) -> None:
    if not rows:
        click.echo("Nothing is kept.")
        return
    columns = ("received", "expires", "plan", "reason", "eligible", "end", "dialect", "bytes", "conversation")
    print_table(
        columns,
        [
            (
                str(row["received_at"])[:19],
                str(row["expires_at"])[:19],
                row["plan"],
                row["reason"],
                ", ".join(purpose for purpose, may in row["eligible"].items() if may) or "no",  # type: ignore[attr-defined]
                row["end"],
                row["dialect"],
                row["bytes"],
                row["conversation"],
            )
            for row in rows
        ],
    )


def _document(opened: OpenedTurn) -> dict[str, object]:
    transcript = opened.transcript
    return {
        "received_at": format_instant(opened.kept.facts.received_at),
        "model": transcript.model,
        "usage": dict(transcript.usage),
        "finish": list(transcript.finish),
        "end": opened.kept.note.end,
        "parsed": transcript.parsed,
        "messages": [
            {
                "role": message.role,
                **({"choice": message.choice} if message.choice is not None else {}),
                "parts": [{"kind": part.kind, "origin": part.origin, **part.body} for part in message.parts],
            }
            for message in (*transcript.input, *transcript.output)
        ],
    }


def _print_turn(opened: OpenedTurn) -> None:
    click.echo(f"— {format_instant(opened.kept.facts.received_at)} ({opened.kept.note.end})")
    for message in (*opened.transcript.input, *opened.transcript.output):
        for part in message.parts:
            click.echo(f"{message.role}: {printable(_words(part))}")


def _words(part: Part) -> str:
    if part.kind in {PartKind.TEXT, PartKind.REFUSAL}:
        return str(part.body["text"])
    if part.kind is PartKind.REASONING:
        return f"[reasoning] {part.body.get('text', '')}"
    if part.kind is PartKind.TOOL_CALL:
        return f"[calls {part.body['name']}] {part.body['arguments']}"
    if part.kind is PartKind.TOOL_RESULT:
        return f"[tool result] {part.body.get('text') or part.body.get('content') or ''}"
    return f"[{part.kind}]"
