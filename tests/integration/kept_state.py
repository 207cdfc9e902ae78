"""What must hold of all that is kept of a person, whatever has happened: looked at in the store itself."""

from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.record import epoch_day, open_record, parse_header
from chatproxy.model import SubjectTag
from chatproxy.policy.versions import PolicyVersion
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.vault import Vault
from chatproxy.workflows.decide import kept_until
from chatproxy.workflows.verdict import Activity, Kept, decide_again
from integration.proxy_fixtures import all_keys

FOREVER = (b"cp:{epoch}", b"cp:{ctl}", b"cp:{due:")


async def sound(
    vault: Vault, connections: Connections, subject: SubjectTag, *, versions: tuple[PolicyVersion, ...] = ()
) -> list[Kept]:
    """Return a person's turns by time received, having seen that expiry, TTL, record, note and index are one.

    And that deciding on them once more would change nothing.
    """
    ttl = await all_keys(connections)
    assert not [name for name, at in ttl.items() if at < 0 and not name.startswith(FOREVER)]
    state = await vault.store.subject_state(subject)
    person = PersonFacts(read_ledger(state.ledger, subject=subject, keys=vault.annotation_keys), versions)
    stored = [turn async for turn in vault.store.annotations(subject)]
    found = [Kept.of(turn, vault.annotation_keys) for turn in stored]
    activity = Activity(person)
    for kept in found:
        activity.learn(kept.facts.conversation_tag, kept.facts.received_at)
    expected_keys = {keys.ledger(subject)} if state.ledger else set()
    for kept in found:
        expected_keys |= await _sound_turn(vault, connections, kept, ttl)
        turn = kept.to_decide(person, activity.times(kept.facts.conversation_tag))
        assert turn.activity == kept.note.activity
        policy = await vault.policies.get(kept.note.policy)
        review_at = person.about(turn.conversation, turn.turn, received_at=turn.received_at).hold_review_at
        for group in kept.note.groups:
            decision = decide_again(group, turn, policy=policy, person=person, now=vault.clock())
            until = kept_until(
                decision, review_at=review_at, now=vault.clock(), sealed_until=group.expires_at
            )
            assert until == group.expires_at
            assert {str(ground): end for ground, end in decision.grounds.items()} == group.grounds
            assert (decision.reason, decision.eligible_capability) == (
                group.reason,
                group.eligible.capability,
            )
    if found:
        expected_keys |= {keys.subject(subject), keys.index(subject)}
        last = max(kept.note.expires_at for kept in found)
        assert ttl[keys.subject(subject)] == ttl[keys.index(subject)] == last
    # Nothing else is left of the person; what is left of heads that two turns shared is checked with the turns.
    own = {
        name for name in ttl if subject.hex().encode() in name and b"}:p:" not in name and b"}:n:" not in name
    }
    assert own == expected_keys
    return sorted(found, key=lambda kept: kept.facts.received_at)


async def _sound_turn(
    vault: Vault, connections: Connections, kept: Kept, ttl: dict[bytes, int]
) -> set[bytes]:
    """See that one turn is whole; return the names of its keys."""
    subject, turn = kept.stored.subject, kept.stored.turn
    expires_at = kept.note.expires_at
    conversation = keys.conversation(subject, kept.facts.conversation_tag)
    assert kept.annotation.expires_at == expires_at == ttl[keys.annotation(subject, turn)]
    assert bool(kept.annotation.previous_mac) == (kept.annotation.seq > 1)
    scores = await connections.ask([["ZSCORE", keys.index(subject), turn], ["ZSCORE", conversation, turn]])
    assert [int(float(score)) for score in scores] == [expires_at, kept.facts.received_at]
    assert ttl[conversation] >= expires_at
    names = {keys.annotation(subject, turn), conversation}
    state = await vault.store.subject_state(subject)
    for group in kept.note.groups:
        name = keys.record(subject, turn, group.n)
        names.add(name)
        [blob] = await vault.store.records(subject, turn, [group.n])
        assert blob is not None
        header = parse_header(blob)
        assert ttl[name] == group.expires_at == header.expires_at
        assert header.epoch == epoch_day(group.expires_at)
        assert open_record(
            blob,
            subject_key=vault.record_keys.unwrap_subject_key(subject, state, header.generation),
            epoch_key=await vault.record_keys.existing_epoch_key(header.epoch),
            subject=subject,
            metadata=kept.facts.record_metadata(group.n),
        )
    for head in map(bytes.fromhex, kept.note.heads):
        found = await vault.store.find_head(subject, head)
        assert found is not None
        if found.turn == turn:
            assert ttl[keys.head(subject, head)] == expires_at
        names.add(keys.head(subject, head))
    return names
