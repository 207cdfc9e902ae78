"""What may be done with a part that was received twice? No more than either decision permits.

A request that is sent again is one turn with the time it was first received (R13). That time alone could be the looser
one: before a withdrawal whose data stays, or under terms that have been replaced since. So both instants are decided
on, and nobody gains by sending a request again.
"""

from msgspec.structs import replace

from chatproxy.policy.engine import Decision


def stricter(first: Decision, again: Decision) -> Decision:
    """Return what both permit: the grounds that both have, to the earlier end, and what both make eligible.

    The reason is the one of *first*, unless *again* alone refuses; so is whether a hold suspends erasure (R24).
    """
    if not first.stored or not again.stored:
        return again if first.stored else first
    grounds = {
        ground: min(end, again.grounds[ground])
        for ground, end in first.grounds.items()
        if ground in again.grounds
    }
    reason = again if first.eligible_capability and not again.eligible_capability else first
    return replace(
        reason,
        stored=bool(grounds),
        grounds=grounds,
        expires_at=max(grounds.values(), default=None),
        held=first.held,
        eligible_capability=first.eligible_capability and again.eligible_capability,
        eligible_safety=first.eligible_safety and again.eligible_safety,
        eligible_feedback=first.eligible_feedback and again.eligible_feedback,
    )
