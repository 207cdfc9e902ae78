"""What does a consent record say that is the same for everybody? Who the controller is, how long, and how to withdraw.

``controller.toml`` is the company's, beside the notices, and is checked when it is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatproxy.consent.toml_table import TOMLTable
from chatproxy.errors import ConfigurationError
from chatproxy.policy.grounds import Ground
from chatproxy.policy.periods import DAY_MS, SECOND_MS, Period
from chatproxy.policy.profile import Periods


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """Who decides about the data, and what people are told about that."""

    name: str
    address: str
    contact: str
    dpo: str | None
    jurisdiction: str
    authority: str
    storage_location: str
    recipients: tuple[str, ...] = ()
    transfers: tuple[str, ...] = ()


def load_controller(path: Path) -> Controller:
    """Read and check a file. Raises ConfigurationError that lists all that is wrong with it."""
    problems: list[str] = []
    table = TOMLTable.of_file(path, problems)
    if table is None:
        raise ConfigurationError("\n".join(problems))
    controller = Controller(
        name=table.text("name"),
        address=table.text("address"),
        contact=table.text("contact"),
        dpo=table.text("dpo") if table.has("dpo") else None,
        jurisdiction=table.text("jurisdiction"),
        authority=table.text("authority"),
        storage_location=table.text("storage_location"),
        recipients=table.texts("recipients") if table.has("recipients") else (),
        transfers=table.texts("transfers") if table.has("transfers") else (),
    )
    table.end()
    if problems:
        raise ConfigurationError("\n".join(problems))
    return controller


def record_terms(
    controller: Controller | None, *, periods: Periods, withdrawal_url: str, steps_to_withdraw: int
) -> Mapping[str, Any]:
    """Return the members of a consent record that are the same for everybody (R37)."""
    terms: dict[str, Any] = {
        "retention_if_yes": iso_period(periods.training),
        "retention_if_no": iso_period(periods.service),
        "withdrawal": {"url": withdrawal_url, "steps": steps_to_withdraw},
    }
    if controller is None:
        return terms
    return terms | {
        "controller": {
            "name": controller.name,
            "address": controller.address,
            "contact": controller.contact,
            "dpo": controller.dpo,
        },
        "jurisdiction": controller.jurisdiction,
        "authority": controller.authority,
        "storage_location": controller.storage_location,
        "recipients": list(controller.recipients),
        "transfers": list(controller.transfers),
    }


def periods_by_ground(periods: Periods) -> dict[str, str]:
    """Return how long each ground keeps a turn at most, as ISO 8601 writes it."""
    by_ground = {
        Ground.SERVICE: periods.service,
        Ground.TRAIN: periods.training,
        Ground.TRAIN_RESIDUE: periods.withdrawn,
        Ground.SAFETY_IO: periods.safety,
        Ground.FEEDBACK: periods.feedback,
        Ground.SESSION_SHARE: periods.session_share,
    }
    return {str(ground): iso_period(period) for ground, period in by_ground.items()}


def iso_period(period: Period) -> str:
    """Return a period as ISO 8601 writes it, such as P5Y, P30D or PT43200S."""
    if period.years:
        return f"P{period.years}Y"
    if period.ms % DAY_MS == 0:
        return f"P{period.ms // DAY_MS}D"
    return f"PT{period.ms // SECOND_MS}S"
