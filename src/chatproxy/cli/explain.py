"""Say why a turn is kept, by which rules, until when, and what would change it."""

import sys

import click

from chatproxy.cli.people import as_json_option, named_turn, read_name
from chatproxy.cli.printing import print_json, printable
from chatproxy.cli.vault import in_vault
from chatproxy.errors import UndecryptableError
from chatproxy.policy.engine import Decision
from chatproxy.policy.instants import format_instant
from chatproxy.policy.rules import GROUNDS, REASONS
from chatproxy.policy.schema import decision_to_json, facts_to_json
from chatproxy.vault import Vault
from chatproxy.workflows.explain import ExplainedPart, Explanation, Supposed

_FOUND_FAULTS = 3


@click.command()
@click.argument("turn", callback=read_name)
@as_json_option
def explain(turn: str, *, as_json: bool) -> None:
    """Say why a turn is kept, by which rules, until when, and what would change it. Nothing is decrypted.

    TURN is a handle from `transcripts list --json` or the header X-Chat-Turn; - reads it from standard input. Rule
    numbers are those of docs/privacy.md. Exit code 3 if the turn or the person's ledger is not as it was kept.
    """

    async def work(vault: Vault) -> dict[str, object]:
        subject, ident = named_turn(vault, turn)
        found = await vault.explainer.explain(subject, ident, handle=turn)
        handle = vault.pseudonyms.conversation_handle(subject, found.outlook.facts.conversation_tag)
        document = _document(turn, handle, found)
        if not as_json:
            _print(document, found)
        return document

    try:
        document = in_vault(work)
    except UndecryptableError as error:
        click.echo(
            f"chatproxy: the turn or its person's ledger is not as it was kept ({error.reason}); it counts as not "
            "eligible, and is not read",
            err=True,
        )
        sys.exit(_FOUND_FAULTS)
    if as_json:
        print_json(document)


def _document(turn: str, conversation: str, found: Explanation) -> dict[str, object]:
    outlook = found.outlook
    last = outlook.person.last_digest
    choice = found.choice
    again = outlook.note.tried_again_at
    text = dict(choice.record).get("policy") if choice else None
    return {
        "turn": turn,
        "conversation": conversation,
        "subject": outlook.stored.subject.hex(),
        "received_at": format_instant(outlook.facts.received_at),
        "tried_again_at": None if again is None else format_instant(again),
        "now": format_instant(outlook.now),
        "policy": {
            "name": outlook.policy.profile.name,
            "digest": outlook.policy.digest,
            "present_digest": found.present_policy,
        },
        "policy_text": text,
        "decided_at": format_instant(outlook.note.decided_at),
        "decided_on": outlook.note.consent,
        "last_event": last,
        "parts": [_part(part) for part in found.parts],
    }


def _part(part: ExplainedPart) -> dict[str, object]:
    meaning = REASONS[part.reason]
    return {
        "part": str(part.noted.part),
        "outcome": _outcome(part.decision, part.reason),
        "sealed_until": None if part.sealed_until is None else format_instant(part.sealed_until),
        "why": meaning.sentence,
        "rules": list(meaning.rules),
        "also": {str(code): REASONS[code].sentence for code in part.decision.also},
        "grounds": {
            str(ground): {
                "until": format_instant(end),
                "for": GROUNDS[ground].sentence,
                "rules": list(GROUNDS[ground].rules),
            }
            for ground, end in part.decision.grounds.items()
        },
        "noted": {
            "reason": part.noted.reason,
            "expires_at": format_instant(part.noted.expires_at),
            "is_due": part.is_due,
        },
        "facts": facts_to_json(part.facts),
        "would_change": [_supposed(each) for each in part.supposed if each.changes],
        "would_not_change": [each.name for each in part.supposed if not each.changes],
    }


def _outcome(decision: Decision, reason: str) -> dict[str, object]:
    return decision_to_json(decision) | {"reason": reason, "held": decision.held}


def _supposed(supposed: Supposed) -> dict[str, object]:
    return {"if": supposed.name, "outcome": _outcome(supposed.decision, supposed.reason)}


def _print(document: dict[str, object], found: Explanation) -> None:
    outlook = found.outlook
    click.echo(f"Turn of {document['received_at']}, in conversation {document['conversation']}")
    present = " (the present one)" if outlook.policy.digest == found.present_policy else ""
    click.echo(f"Policy: {printable(outlook.policy.profile.name)}, {outlook.policy.digest}{present}")
    click.echo(f"Last event in the ledger: {document['last_event'] or 'none'}")
    for part in found.parts:
        _print_part(part)


def _print_part(part: ExplainedPart) -> None:
    decision, meaning = part.decision, REASONS[part.reason]
    click.echo(f"\nParts that are {part.noted.part}:")
    click.echo(f"  {part.reason} ({', '.join(meaning.rules)}): {meaning.sentence}")
    for code in decision.also:
        click.echo(f"  {code} ({', '.join(REASONS[code].rules)}): {REASONS[code].sentence}")
    for ground, end in decision.grounds.items():
        rules = ", ".join(GROUNDS[ground].rules)
        click.echo(f"  {ground} until {format_instant(end)}, {GROUNDS[ground].sentence} ({rules})")
    click.echo(f"  {_in_words(decision)}")
    if part.is_due:
        click.echo(
            f"  What is stored still says {part.noted.reason}, until {format_instant(part.noted.expires_at)}; reading "
            "heeds the above already."
        )
    changing = [each for each in part.supposed if each.changes]
    if changing:
        click.echo("  It would be otherwise if")
        for each in changing:
            click.echo(f"    {each.words}: {each.reason}. {_in_words(each.decision)}")
    unchanging = [each.words for each in part.supposed if not each.changes]
    if unchanging:
        click.echo(f"  Nothing would change if {'; '.join(unchanging)}.")


def _in_words(decision: Decision) -> str:
    if not decision.stored:
        return "Not kept."
    purposes = {
        "capability": decision.eligible_capability,
        "safety": decision.eligible_safety,
        "feedback": decision.eligible_feedback,
    }
    used = ", ".join(purpose for purpose, may in purposes.items() if may) or "no purpose of training"
    if decision.held or decision.expires_at is None:
        return f"Held; to be used for {used}."
    return f"Kept until {format_instant(decision.expires_at)}; to be used for {used}."
