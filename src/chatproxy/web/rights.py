"""Who may do what on the admin listener? One table: every operation and path is in it, and what is not is refused.

``docs/api.md`` has the same table, and a test compares the two.
"""

from collections.abc import Mapping

from chatproxy.identities.operators import Operator, Role

_SECURITY = frozenset({Role.SECURITY})
_PRIVACY = frozenset({Role.PRIVACY})
_PEOPLE = frozenset({Role.PRIVACY, Role.SECURITY})
_PROOF = frozenset({Role.PRIVACY, Role.DATA})

RIGHTS: Mapping[str, frozenset[Role]] = {
    "/readyz reasons": frozenset({Role.OPS}),
    "/metrics": frozenset({Role.OPS}),
    "/console": frozenset(Role),
    "postSubject": _PEOPLE,
    "postLink": _PRIVACY,
    "getChoice": _PROOF,
    "putChoice": _PRIVACY,
    "getHistory": _PRIVACY,
    "getReceipt": _PROOF,
    "deleteAccount": _PRIVACY,
    "importChoices": _PRIVACY,
    "flagTurn": _SECURITY,
    "liftFlag": _SECURITY,
    "findMinor": _PEOPLE,
    "getAllHolds": _SECURITY,
    "getHolds": _PEOPLE,
    "placeHold": _SECURITY,
    "releaseHold": _SECURITY,
    "deleteConversation": _PRIVACY,
    "shareConversation": _PRIVACY,
    "excludeConversation": _PRIVACY,
    "followAccount": _PRIVACY,
    "giveFeedback": _PRIVACY,
    "withdrawFeedback": _PRIVACY,
}
"""By the name of an operation, or a path that is none: the roles of which one is needed."""


def may(operator: Operator | None, name: str) -> bool:
    """Whether *operator* may do what is called *name*; None may nothing, and what is not in the table nobody may."""
    return operator is not None and not operator.roles.isdisjoint(RIGHTS.get(name, frozenset()))


def roles_for(name: str) -> str:
    """Return the roles that may, in words."""
    return " or ".join(sorted(RIGHTS.get(name, frozenset())))
