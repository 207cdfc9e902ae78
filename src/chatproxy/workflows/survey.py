"""Under which policies is what is kept, and do all nodes decide under the present one?

Every note names its policy, and that of a turn that was never decided on again is the one that its node kept it
under. So a node that keeps turns under another policy, when some node has begun with the present one, is told. One
that has kept nothing since is not seen.
"""

from collections import Counter
from dataclasses import dataclass, field

from chatproxy.crypto.annotation import AnnotationKeys, verify
from chatproxy.errors import UndecryptableError
from chatproxy.ports import TranscriptStore
from chatproxy.workflows.annotate import read
from chatproxy.workflows.policies import Policies

SAMPLE = 2_000
"""Turns that a survey looks at unless it is asked for all."""


@dataclass(slots=True)
class Survey:
    """What was found."""

    turns: int = 0
    is_whole: bool = True
    """Whether every turn was looked at."""
    by_policy: Counter[str] = field(default_factory=Counter)
    """Turns by the digest of their policy."""
    looser: set[str] = field(default_factory=set)
    """The policies among them that keep longer, or permit more, than the present one."""
    kept_elsewise: dict[str, int] = field(default_factory=dict)
    """Of each node, when it last kept a turn under another policy than the present one, ms."""
    present_since: int | None = None
    """When the first turn was kept under the present policy, ms."""

    @property
    def under_looser(self) -> int:
        """Return how many turns `policy apply` would bring under a stricter policy."""
        return sum(self.by_policy[digest] for digest in self.looser)

    @property
    def nodes_apart(self) -> list[str]:
        """Return the nodes that kept turns under another policy after the present one had come into use."""
        since = self.present_since
        return sorted(node for node, at in self.kept_elsewise.items() if since is not None and at > since)


async def survey(
    store: TranscriptStore, annotation_keys: AnnotationKeys, policies: Policies, *, most: int | None
) -> Survey:
    """Look at up to *most* turns; None: at all. Raises StoreUnavailableError."""
    found = Survey()
    async for stored in store.annotations():
        if most is not None and found.turns >= most:
            found.is_whole = False
            break
        try:
            annotation = verify(
                stored.annotation, keys=annotation_keys, subject=stored.subject, turn=stored.turn
            )
            facts, note = read(annotation)
        except UndecryptableError:
            continue  # `transcripts list` names it
        found.turns += 1
        found.by_policy[note.policy] += 1
        if annotation.seq != 1:
            continue
        if note.policy == policies.current.digest:
            found.present_since = min(note.decided_at, found.present_since or note.decided_at)
        else:
            found.kept_elsewise[facts.node] = max(note.decided_at, found.kept_elsewise.get(facts.node, 0))
    for digest in found.by_policy:
        try:
            policy = await policies.get(digest)
        except UndecryptableError:
            found.looser.add(digest)  # unknown: so it may be
            continue
        if policy.and_as_strict_as(policies.current).digest != digest:
            found.looser.add(digest)
    return found
