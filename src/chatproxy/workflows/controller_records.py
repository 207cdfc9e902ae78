"""What must a controller be able to show, of processing and of training, as far as chatproxy knows it?

Three records, as plain values: of processing activities (GDPR Art. 30), of the user data in the summary of training content
(AI Act Art. 53(1)(d)), and of datasets (California AB 2013, Civil Code § 3111). What is in them comes from
``controller.toml``, the settings, the policy, and the lineage of datasets. What only the company can know is named under
``to_be_stated`` and never guessed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatproxy.consent.controller import Controller, iso_period, periods_by_ground
from chatproxy.policy.grounds import Ground
from chatproxy.policy.instants import format_instant
from chatproxy.policy.periods import Period
from chatproxy.policy.profile import Periods, Profile
from chatproxy.policy.versions import PolicyVersion
from chatproxy.workflows.dataset_figures import DatasetFigures
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS

Record = Mapping[str, Any]

_CONSENT = "GDPR Art. 6(1)(a): consent"
_ACTIVITIES: Mapping[Ground, tuple[str, str | None]] = {
    Ground.SERVICE: ("running the chat for the person who uses it", None),
    Ground.TRAIN: ("training and improving models", _CONSENT),
    Ground.TRAIN_RESIDUE: (
        "erasing what was kept for training, after a consent has ended; used for nothing",
        None,
    ),
    Ground.SAFETY_IO: ("reviewing what was flagged, and keeping people safe", None),
    Ground.FEEDBACK: ("improving the service with feedback that a person sent", None),
    Ground.SESSION_SHARE: ("looking into a session that a person shared in a survey; never training", None),
}
"""What each ground is for, and on which legal basis, where the policy itself rests on one (R35)."""
_CATEGORIES = (
    "what a person writes and uploads as text, and the answers",
    "type, size and hash of images, audio and files",
    "results of tools and connected services",
    "when, on which plan and surface, with which model; signals such as Sec-GPC",
    "choices about training, with what was shown; deletions, feedback, flags, legal holds",
)
_PROOF_OUTLIVES = iso_period(Period(ms=LEDGER_OUTLIVES_MS))
_SECURITY = (
    "each turn is sealed under a key that is derived from the person's key and the key of the day it expires on",
    "people are stored by keyed pseudonyms alone; no conversation and no id is ever stored in clear",
    "erasure destroys keys, so that what is left cannot be read; a certificate says so",
    "every reading is for a purpose that has a ground, and in an append-only, signed audit log first",
    "a decision that cannot be made well is made in the person's favour",
)
_ALWAYS_LEFT_OUT = (
    "incognito conversations",
    "conversations that the person excluded or deleted",
    "requests that carry Content-Usage: train-ai=n",
    "what people said who never agreed, or who have withdrawn",
    "minors",
    "raw data of connected services",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the records are made of. Instants in ms."""

    at: int
    controller: Controller | None
    periods: Periods
    profile: Profile
    policy: PolicyVersion | None
    """The version that people choose about."""
    erasure_horizon_days: int
    keyset: str
    """What kind of provider keeps the root key."""
    datasets: Sequence[DatasetFigures]
    """The oldest first."""


def processing(about: Circumstances) -> Record:
    """Return the record of processing activities (GDPR Art. 30(1))."""
    controller = about.controller
    consumers = sorted({each.consumer for each in about.datasets})
    missing = [
        "legal basis of each activity where it is none",
        "joint controllers and representative, if any",
        "how long the audit log is kept, which says who has read what",
    ]
    if controller is None:
        missing.append("controller, recipients, transfers, place of storage (controller.toml is not there)")
    return {
        "format": "chatproxy/processing/v1",
        "at": format_instant(about.at),
        "controller": _controller(controller),
        "activities": [
            {
                "activity": str(ground),
                "purpose": purpose,
                "legal_basis": basis,
                "kept_at_most": periods_by_ground(about.periods)[str(ground)],
            }
            for ground, (purpose, basis) in _ACTIVITIES.items()
        ]
        + [
            {
                "activity": "PROOF",
                "purpose": "proving what a person chose and did, with what was shown",
                "legal_basis": None,
                "kept_at_most": f"{iso_period(about.periods.training)} after the last of it, and {_PROOF_OUTLIVES}",
            }
        ],
        "data_subjects": [
            f"people who chat on the plans {_listed(about.profile.consumer_plans)}",
            "people whose plan or identity is not known, for the shortest period",
        ],
        "nothing_is_kept_of": [
            f"people on the plans {_listed(about.profile.exempt_plans)}"
            + ("" if about.profile.exempt_mode == "passthrough" else ", beyond 30 days"),
            "people whose organisation has agreed on zero data retention",
            "minors",
        ],
        "categories_of_data": list(_CATEGORIES),
        "recipients": [*controller.recipients, *consumers] if controller else consumers or None,
        "transfers": list(controller.transfers) if controller else None,
        "storage_location": controller.storage_location if controller else None,
        "erasure": f"at the end of each period; backups are unreadable {about.erasure_horizon_days} days later at most",
        "security_measures": [*_SECURITY, f"the root key is kept by: {about.keyset}"],
        "policy_version": about.policy.version if about.policy else None,
        "to_be_stated": missing,
    }


def ai_act(about: Circumstances) -> Record:
    """Return the user-data part of the summary of training content (AI Act Art. 53(1)(d), template section 2.4)."""
    used, others = _for_training(about.datasets)
    return {
        "format": "chatproxy/ai-act-user-data/v1",
        "at": format_instant(about.at),
        "provider": about.controller.name if about.controller else None,
        "user_interactions_used": bool(used) if used or not others else None,
        "description": "conversations of people with the chat that chatproxy stands in front of"
        if used
        else None,
        "modalities": ["text"] if used else [],
        "collected_from": _instant(min, (each.first_received_at for each in used)),
        "collected_until": _instant(max, (each.last_received_at for each in used)),
        "legal_basis": _CONSENT if used else None,
        "people_on_plans": sorted(about.profile.consumer_plans - about.profile.exempt_plans),
        "always_left_out": list(_ALWAYS_LEFT_OUT),
        "measures": [
            "each turn is decided on again at the export, and taken back when it may not be used any more",
            "the person is taken out: a pseudonym that no other dataset shares",
            f"personal data is redacted by the profile {_listed(each.redaction for each in used)}",
        ]
        if used
        else [],
        "datasets": [_dataset(each) for each in used],
        "datasets_for_other_purposes": [_dataset(each) for each in others],
        "to_be_stated": [
            "whether data of other services of the provider was used, and which",
            "which of the datasets trained which model",
            *_of_others(others),
        ],
    }


def california(about: Circumstances) -> Record:
    """Return the documentation of training data (California AB 2013, Civil Code § 3111(a)), by its own numbers."""
    used, others = _for_training(about.datasets)
    items = sum(each.items for each in used)
    return {
        "format": "chatproxy/california-ab-2013/v1",
        "at": format_instant(about.at),
        "developer": about.controller.name if about.controller else None,
        "items": [
            _item(1, "sources or owners", "people who chat, with their consent" if used else None),
            _item(2, "how the datasets further the purpose of the system", None),
            _item(
                3,
                "number of data points",
                f"{_range(items)}, each dataset counted by itself" if used else None,
            ),
            _item(
                4, "types of data points", "conversations: messages and answers, as text" if used else None
            ),
            _item(5, "protected by copyright, trademark or patent, or in the public domain", None),
            _item(6, "purchased or licensed", "no" if used else None),
            _item(
                7,
                "personal information",
                "redacted by a named profile; what it misses may remain" if used else None,
            ),
            _item(8, "aggregate consumer information", "no" if used else None),
            _item(
                9,
                "cleaning, processing or modification",
                f"the person taken out; redaction {_listed(each.redaction for each in used)}"
                if used
                else None,
            ),
            _item(10, "period of collection", _period(used)),
            _item(11, "first used", None),
            _item(12, "synthetic data", "answers of a model are part of each conversation" if used else None),
        ],
        "datasets": [_dataset(each) for each in used],
        "datasets_for_other_purposes": [_dataset(each) for each in others],
        "to_be_stated": ["every item whose answer is none", *_of_others(others)],
    }


def as_markdown(title: str, record: Record) -> str:
    """Return a record to be read: each member under its name."""
    lines = [f"# {title}", ""]
    for name, value in record.items():
        lines += _member(name, value)
    return "\n".join(lines).rstrip("\n") + "\n"


def _member(name: str, value: Any) -> list[str]:
    heading = _words(name)
    if isinstance(value, Mapping):
        return [f"## {heading}", "", *(f"- {_words(key)}: {_cell(each)}" for key, each in value.items()), ""]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        columns = list(value[0])
        return [
            f"## {heading}",
            "",
            f"| {' | '.join(map(_words, columns))} |",
            f"|{'---|' * len(columns)}",
            *(f"| {' | '.join(_cell(row[column]) for column in columns)} |" for row in value),
            "",
        ]
    if isinstance(value, list):
        return [f"## {heading}", "", *(f"- {_cell(each)}" for each in value or ["none"]), ""]
    return [f"**{heading}**: {_cell(value)}", ""]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # What others have named must not make a cell, or a line, of its own.
    return str(value).replace("|", "\\|").replace("\n", " ")


def _controller(controller: Controller | None) -> Record | None:
    if controller is None:
        return None
    return {
        "name": controller.name,
        "address": controller.address,
        "contact": controller.contact,
        "data_protection_officer": controller.dpo,
        "jurisdiction": controller.jurisdiction,
        "authority": controller.authority,
    }


def _for_training(
    datasets: Iterable[DatasetFigures],
) -> tuple[list[DatasetFigures], list[DatasetFigures]]:
    """Return the datasets that are for training, and the others: whether those train, only the company knows."""
    used: list[DatasetFigures] = []
    others: list[DatasetFigures] = []
    for each in datasets:
        (used if each.purpose == "capability" else others).append(each)
    return used, others


def _of_others(others: Sequence[DatasetFigures]) -> list[str]:
    return ["whether a dataset for another purpose trained a model too"] if others else []


def _dataset(each: DatasetFigures) -> Record:
    return {
        "dataset": each.dataset,
        "purpose": each.purpose,
        "consumer": each.consumer,
        "exported_at": format_instant(each.at),
        "items": each.items,
        "turns": each.turns,
        "people": each.people,
        "conversations": each.conversations,
        "received_from": None if each.first_received_at is None else format_instant(each.first_received_at),
        "received_until": None if each.last_received_at is None else format_instant(each.last_received_at),
        "redaction": each.redaction,
        "recalled": each.recalled,
    }


def _item(number: int, asked: str, answer: str | None) -> Record:
    return {"number": number, "asked": asked, "answer": answer}


def _instant(choose: Callable[[list[int]], int], instants: Iterable[int | None]) -> str | None:
    known = [at for at in instants if at is not None]
    return format_instant(choose(known)) if known else None


def _period(used: Sequence[DatasetFigures]) -> str | None:
    first = _instant(min, (each.first_received_at for each in used))
    last = _instant(max, (each.last_received_at for each in used))
    return f"{first} to {last}; collection goes on" if first and last else None


def _range(count: int) -> str:
    """Return the power of ten that a number lies in: the law asks for general ranges."""
    low = 10 ** (len(str(count)) - 1) if count else 0
    return f"{low:,} to {low * 10:,}" if count else "none"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))
