"""What a decision depends on, about one part of one turn. Time is a fact like the others."""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from chatproxy.model import Age, Origin

TRAIN_AI_NO = "train-ai=n"
"""The one signal that bears on training (R18)."""


class Lookup(StrEnum):
    """How reading the person's choice went (R30)."""

    OK = "ok"
    STALE = "stale"
    FAILED = "failed"


class Override(StrEnum):
    """What the person set for this one conversation (R17)."""

    INHERIT = "inherit"
    SHARE = "share"
    EXCLUDE = "exclude"


class Facts(Struct, frozen=True, kw_only=True):
    """The facts of one part. Instants are ms; None: did not happen. What is not stated counts as not known.

    A Struct, like all that a decision makes on its way: each chat makes some twenty, and frozen dataclasses are slow to make.
    """

    turn_at: int
    """When the turn was received or generated: the clock of the turn (R6)."""
    now: int
    plan: str | None = None
    """The name of the plan; None: cannot be determined (R3)."""
    age: Age = Age.UNKNOWN
    conv_activity: tuple[int, ...] = ()
    """When the turns of the conversation were made, in any order."""
    choices: tuple[tuple[int, str], ...] = ()
    """(at, state) of each choice event (R8), in any order; at one instant as they were recorded."""
    lookup: Lookup = Lookup.FAILED
    incognito: bool = False
    zdr: bool = False
    override: Override = Override.INHERIT
    override_at: int | None = None
    """When the conversation was shared; None: not known, so before any choice."""
    signal: str | None = None
    flagged_at: int | None = None
    feedback: tuple[int, str] | None = None
    """(at, kind); kinds: thumbs, bug, feedback, share, session_share, rating_only (R14, R15)."""
    deleted_at: int | None = None
    account_deleted_at: int | None = None
    hold_at: int | None = None
    origin: str = Origin.TYPED

    def as_of_now(self) -> "Facts":
        """Return the facts without events dated after ``now``, which do not exist yet.

        An exclusion is not an event, since ``override_at`` tells of sharing only; so it holds at any time.
        """
        now = self.now
        if self._latest_at() <= now:
            return self
        not_shared_yet = self.override == Override.SHARE and _by(self.override_at, now) != self.override_at
        return replace(
            self,
            override=Override.INHERIT if not_shared_yet else self.override,
            flagged_at=_by(self.flagged_at, now),
            feedback=self.feedback if self.feedback and self.feedback[0] <= now else None,
            deleted_at=_by(self.deleted_at, now),
            account_deleted_at=_by(self.account_deleted_at, now),
            hold_at=_by(self.hold_at, now),
            choices=tuple(choice for choice in self.choices if choice[0] <= now),
            conv_activity=tuple(at for at in self.conv_activity if at <= now),
        )

    def first_deletion(self) -> int | None:
        """Return the first deletion that counts, of those not older than the turn (R22, R23); None: there is none."""
        deletions = [
            at for at in (self.deleted_at, self.account_deleted_at) if at is not None and at >= self.turn_at
        ]
        return min(deletions) if deletions else None

    def is_account_deleted(self) -> bool:
        """Return whether the deletion of the account counts."""
        return self.account_deleted_at is not None and self.account_deleted_at >= self.turn_at

    def _latest_at(self) -> int:
        """Return the instant of the latest event: almost always it is past, and then all are."""
        turn_at = self.turn_at
        return max(
            turn_at,
            *self.conv_activity,
            max(self.choices)[0] if self.choices else turn_at,
            self.feedback[0] if self.feedback else turn_at,
            self.override_at or turn_at,
            self.flagged_at or turn_at,
            self.deleted_at or turn_at,
            self.account_deleted_at or turn_at,
            self.hold_at or turn_at,
        )


def _by(at: int | None, now: int) -> int | None:
    return at if at is not None and at <= now else None
