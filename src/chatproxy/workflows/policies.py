"""Which policy was a turn decided under? Each that chatproxy ran with is kept in the store, under its digest.

Stored turns stay under the policy that they were decided under: other periods or parameters are not retroactive by
themselves, and what changes a person's facts must not bring them in through the back door.
"""

from chatproxy.errors import UndecryptableError
from chatproxy.ports import TranscriptStore
from chatproxy.workflows.decide import Policy


class Policies:
    """The policy of the settings, and those of before."""

    def __init__(self, store: TranscriptStore, current: Policy) -> None:
        self._store = store
        self.current = current
        self._known = {current.digest: current}

    async def register(self) -> None:
        """Let every node know the present policy. Raises StoreUnavailableError."""
        await self._store.swap_control(_name(self.current.digest), None, self.current.document)

    async def get(self, digest: str) -> Policy:
        """Return the policy of that digest.

        Raises UndecryptableError where the store has none or another one under its name, StoreUnavailableError.
        """
        if digest not in self._known:
            document = await self._store.read_control(_name(digest))
            if document is None:
                raise UndecryptableError("unknown_policy")
            try:
                policy = Policy.from_document(document)
            except ValueError:
                raise UndecryptableError("policy_format") from None
            if policy.digest != digest:
                raise UndecryptableError("policy_digest")
            self._known[digest] = policy
        return self._known[digest]

    async def stricter_than(self, policy: Policy) -> Policy:
        """Return what *policy* and the present one both allow, registered. Raises StoreUnavailableError."""
        both = policy.and_as_strict_as(self.current)
        if both.digest not in self._known:
            await self._store.swap_control(_name(both.digest), None, both.document)
            self._known[both.digest] = both
        return both


def _name(digest: str) -> str:
    return f"policy:{digest}"
