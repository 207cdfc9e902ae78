"""What does each code of a decision mean to an operator, and which rules of the policy stand behind it?

For the people whose turns these are, pages have words of their own; these name rules, facts and consequences.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason


@dataclass(frozen=True, slots=True)
class Meaning:
    """A sentence, and the numbers of the rules behind it."""

    sentence: str
    rules: tuple[str, ...]


REASONS: Mapping[str, Meaning] = MappingProxyType(
    {
        Reason.ZDR_NO_STORE: Meaning("Zero data retention is agreed with the organisation.", ("R4",)),
        Reason.PLAN_EXEMPT: Meaning(
            "The plan is exempt: never trained on, whatever choices are on record.", ("R2",)
        ),
        Reason.AGE_INELIGIBLE: Meaning("The person is a minor, of whom nothing is kept.", ("R5",)),
        Reason.ACCOUNT_DELETED: Meaning("The account was deleted after this turn.", ("R23", "R22")),
        Reason.DELETED: Meaning("The person deleted the conversation.", ("R22",)),
        Reason.PLAN_UNKNOWN: Meaning(
            "The plan is named neither as a consumer plan nor as an exempt one, so the minimum holds.",
            ("R3",),
        ),
        Reason.INCOGNITO: Meaning("The conversation is incognito, which is never trained on.", ("R16",)),
        Reason.CONV_EXCLUDED: Meaning("The person excluded this conversation.", ("R17",)),
        Reason.SIGNAL_OPT_OUT: Meaning("The request said Content-Usage: train-ai=n.", ("R18",)),
        Reason.AGE_UNVERIFIED: Meaning(
            "The age is not proved, and the profile asks for proof (unknown_age).", ("R5",)
        ),
        Reason.CONSENT_LOOKUP_FAILED: Meaning(
            "The choice could not be read when the turn was kept, which counts as no.", ("R30",)
        ),
        Reason.CONSENT_CACHE_STALE: Meaning(
            "The choice had been read too long ago for a yes to count.", ("R30",)
        ),
        Reason.ELIGIBLE_CONV_SHARE: Meaning("The person shared this conversation.", ("R17",)),
        Reason.ELIGIBLE_CONSENT: Meaning("The turn was made under a consent that stands.", ("R11", "R9")),
        Reason.ELIGIBLE_RESUMED: Meaning(
            "The turn is older than the consent, and the conversation was taken up again under it.", ("R12",)
        ),
        Reason.ELIGIBLE_PRIOR_VERSION: Meaning(
            "The turn keeps the consent to an earlier version of the policy.", ("R33",)
        ),
        Reason.NOT_RESUMED: Meaning(
            "A consent stands, but does not reach this turn: it is older, and the conversation was not taken up again"
            " while it was there.",
            ("R12", "R21"),
        ),
        Reason.PRE_CONSENT_TURN: Meaning(
            "The turn is older than the consent, and the profile counts new turns only (resume_scope).",
            ("R12",),
        ),
        Reason.CONSENT_WITHDRAWN: Meaning("The consent was withdrawn.", ("R20",)),
        Reason.CONSENT_REFUSED: Meaning("The person said no.", ("R8", "R11")),
        Reason.CONSENT_DEFERRED: Meaning("The person put the choice off, which is not a yes.", ("R8",)),
        Reason.CONSENT_EXPIRED: Meaning("The consent had an end, which has passed.", ("R8",)),
        Reason.CONSENT_TERMINATED: Meaning(
            "The consent ended with what it was given for, such as the account.", ("R8", "R23")
        ),
        Reason.CONSENT_INVALIDATED: Meaning("The consent was found not to be valid.", ("R8",)),
        Reason.CONSENT_STALE_VERSION: Meaning(
            "The policy has changed materially, and the new version was not chosen yet.", ("R33",)
        ),
        Reason.CONSENT_UNKNOWN: Meaning("No choice is on record, which counts as no.", ("R8", "R11")),
        Reason.PART_CONNECTOR_RAW: Meaning(
            "A connector's raw result stays out of training, though the rest of the turn is eligible.",
            ("R25",),
        ),
        Reason.SAFETY_REVIEW_HOLD: Meaning(
            "Eligible, but flagged: training waits for the review (flagged_capability).", ("R19",)
        ),
        Reason.TRAIN_PERIOD_OVER: Meaning(
            "The training period is over; something else keeps the turn.", ("R34", "R7")
        ),
        Reason.EXPIRED: Meaning("No ground is left.", ("R7",)),
        Reason.LEGAL_HOLD_ONLY: Meaning(
            "Nothing but a legal hold keeps the turn, sealed and of no use.", ("R24",)
        ),
        Reason.FEEDBACK_EXPLICIT: Meaning("Also kept for feedback that the person sent.", ("R14",)),
        Reason.SESSION_SHARE_NO_TRAIN: Meaning(
            "Also kept since the person shared the session in a survey, never for training.", ("R15",)
        ),
        Reason.SAFETY_FLAG: Meaning("Also kept for safety review.", ("R19",)),
        Reason.LEGAL_HOLD: Meaning("Also: a legal hold suspends erasure.", ("R24",)),
        "UNPARSED": Meaning(
            "The exchange could not be understood, so its bytes are treated as the strictest origin.",
            ("R25",),
        ),
    }
)
"""Every reason, by its code; ``UNPARSED`` is the listing's own."""

GROUNDS: Mapping[Ground, Meaning] = MappingProxyType(
    {
        Ground.SERVICE: Meaning("for the chat itself", ("R6", "R7")),
        Ground.TRAIN: Meaning("for training of capability", ("R11",)),
        Ground.TRAIN_RESIDUE: Meaning("what an ended consent leaves to be erased, of no use", ("R20",)),
        Ground.SAFETY_IO: Meaning("for safety", ("R19",)),
        Ground.FEEDBACK: Meaning("for feedback", ("R14",)),
        Ground.SESSION_SHARE: Meaning("for the survey that it was shared in, never for training", ("R15",)),
    }
)
