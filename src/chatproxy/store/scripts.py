"""What must happen in the store in one step?

Lua through EVALSHA, for Redis >= 7.0 and Valkey >= 7.2; functions would have to be loaded on each node. Every key
is declared in KEYS and has one hash tag, so the scripts hold in a cluster too. Rules they keep:

1. Checks come before the first write: a refusal changes nothing.
2. No key of a person is ever without an expiry: each write is followed by its expiry before anything that could
   fail. None is set into the past, which would delete the key. A put extends an expiry and never shortens it; what
   shortens is a later decision.
3. The annotation is written last. It marks the turn as stored, so a put that broke off is done again in full. Only
   the mark of an attempt comes after it, for the same reason: until then a retry takes the attempt's place.
4. The clock is the store's own. ``SET ... PXAT <past>`` answers OK and stores nothing, hence the check.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.ports import MOST_GROUPS, Due, RedecidedTurn, SealedTurn
from chatproxy.store import keys
from chatproxy.unshown import Unshown


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name under which servers know it."""

    source: bytes = field(repr=False)
    sha: str

    @classmethod
    def of(cls, source: str) -> "Script":
        """Make a script from its text."""
        text = source.encode()
        return cls(source=text, sha=hashlib.sha1(text, usedforsecurity=False).hexdigest())


class Call(Unshown, frozen=True):
    """One run of a script."""

    script: Script
    keys: Sequence[bytes]
    arguments: Sequence[bytes | int]

    def command(self) -> list[bytes | int | str]:
        """Return the command that runs it by name."""
        return ["EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments]


CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

KEEP = """
local function keep(key, at)
  -- GT takes a key without an expiry for one that lives for ever.
  if at > now and redis.call('PEXPIREAT', key, at, 'GT') == 0 and redis.call('PEXPIRETIME', key) == -1 then
    redis.call('PEXPIREAT', key, at)
  end
end
"""

_PUT_TURN = Script.of(
    CLOCK
    + KEEP
    + """
-- KEYS: subject, ledger, index, conversation, annotation, attempt, other name, attempt of the parent,
--       all records of the turn, heads..., records...
-- ARGV: received_at, expires_at, generation, new wrap or '', ledger length, ledger_keep_until, turn, head value,
--       number of heads, number of groups, completes or '' where there are no attempts, richness, announced turn,
--       waiting attempt or '', whether it is named, continued turn or '', number of record names, grant_since or 0,
--       (expires_at, blob)..., (annotation field, value)...
local received, expires, turn = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[7]
local heads, groups = tonumber(ARGV[9]), tonumber(ARGV[10])
local completes, richness, announced, known = ARGV[11], tonumber(ARGV[12]), ARGV[13], ARGV[14]
local named, continued, names, granted = ARGV[15], ARGV[16], tonumber(ARGV[17]), tonumber(ARGV[18])
local first_head, first_group, first_field = 8 + names, 17, 19 + 2 * groups

local state = redis.call('HMGET', KEYS[1], 'erased_at', 'gen', 'gen_floor')
local erased_at, generation, floor = state[1], state[2], state[3]
if erased_at and received <= tonumber(erased_at) then return -5 end
if generation then
  if generation ~= ARGV[3] then return -2 end
  -- Of two who each drew the first key, only one kept it; what the other has sealed would never open.
  if ARGV[4] ~= '' and redis.call('HGET', KEYS[1], 'w' .. ARGV[3]) ~= ARGV[4] then return -2 end
else
  if ARGV[4] == '' then return -2 end
  if floor and tonumber(ARGV[3]) <= tonumber(floor) then return -2 end
  -- Turns whose key has vanished: a new key over them would hide the loss.
  if not erased_at and redis.call('EXISTS', KEYS[3]) == 1 then return -2 end
end
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[5]) then return -4 end
if expires <= now then return -3 end
for group = 1, groups do
  if tonumber(ARGV[first_group + 2 * group]) <= now then return -3 end
end
local kept, replaces, same, continues = redis.call('EXISTS', KEYS[5]) == 1, false, false, false
local left_behind = kept and erased_at and names > 0
for name = 1, left_behind and names or 0 do
  local head = redis.call('GETRANGE', KEYS[8 + name], 6, 7)
  if #head == 2 and string.byte(head, 1) * 256 + string.byte(head, 2) > tonumber(floor or '0') then
    left_behind = false
  end
end
-- What an erasure has left for its sweep opens no more: it is no turn that this one could be again.
if left_behind then kept = false end
if completes == '' then
  same = kept
else
  local mark = redis.call('GET', KEYS[6]) or ''
  local waiting, kind, measure = string.sub(mark, 1, 16), string.sub(mark, 17, 17), tonumber(string.sub(mark, 18))
  local renamed = redis.call('GET', KEYS[7])
  if renamed and erased_at then
    local at = redis.call('ZSCORE', KEYS[4], renamed)
    renamed = generation and not (at and tonumber(at) <= tonumber(erased_at))
  end
  local borrowed = turn == known and turn ~= announced and named == '0'
  if kept and kind == 'o' and waiting == turn then
    if waiting ~= known then return -7 end
    replaces = completes == '1' or richness > (measure or 0)
    same = not replaces
  elseif kept and (renamed or not borrowed) then
    same = true
  elseif borrowed or (kind == 'o' and waiting ~= known) then
    return -7
  elseif renamed then
    same = true
  elseif kind == 'd' and completes == '0' and received < (measure or 0) then
    -- The retry was faster: what it has answered stays.
    same, turn = true, waiting
  end
  if continued ~= '' then
    continues = string.sub(redis.call('GET', KEYS[8]) or '', 1, 17) == continued .. 'o'
  end
end
if same then
  if completes ~= '' and turn ~= announced then redis.call('SET', KEYS[7], turn, 'PXAT', ARGV[2]) end
  if granted == 0 then return 2 end
  -- Nobody knows whether what the put that kept it has answered was heard.
  local since = redis.call('ZCOUNT', KEYS[4], granted, '+inf')
  if redis.call('ZSCORE', KEYS[4], turn) and (since == 0 or since == redis.call('ZCARD', KEYS[4])) then return 2 end
  return 4
end

-- Of a conversation with turns from before the grant, this is the first turn since, or one from before it.
local resumes = false
if granted > 0 then
  local since = redis.call('ZCOUNT', KEYS[4], granted, '+inf')
  if received < granted then resumes = since > 0
  else resumes = since == 0 and redis.call('EXISTS', KEYS[4]) == 1 end
end

if replaces or left_behind then
  for name = 1, names do redis.call('DEL', KEYS[8 + name]) end
end
if not generation then
  redis.call('HSET', KEYS[1], 'gen', ARGV[3], 'w' .. ARGV[3], ARGV[4], 'gen_at', string.format('%.0f', now))
  keep(KEYS[1], expires)
end
-- A server without memory refuses the first write of a script or none, and only one that takes memory.
for group = 1, groups do
  local at = first_group + 2 * group
  redis.call('SET', KEYS[first_head + heads + group], ARGV[at + 1], 'PXAT', ARGV[at])
end
if generation then keep(KEYS[1], expires) end
for head = 1, heads do
  -- Of several turns that end alike, the pointer names the one that lives longest.
  local key = KEYS[first_head + head]
  if not redis.call('SET', key, ARGV[8], 'PXAT', ARGV[2], 'NX') and redis.call('PEXPIRETIME', key) <= expires then
    redis.call('SET', key, ARGV[8], 'PXAT', ARGV[2])
  end
end
redis.call('ZADD', KEYS[3], ARGV[2], turn)
keep(KEYS[3], expires)
redis.call('ZADD', KEYS[4], ARGV[1], turn)
keep(KEYS[4], expires)
if ARGV[5] ~= '0' then keep(KEYS[2], tonumber(ARGV[6])) end
if turn ~= announced then redis.call('SET', KEYS[7], turn, 'PXAT', ARGV[2]) end
-- An answer that was continued is not replaced any more.
if continues then redis.call('DEL', KEYS[8]) end
redis.call('HSET', KEYS[5], unpack(ARGV, first_field))
redis.call('PEXPIREAT', KEYS[5], ARGV[2])
if completes == '0' then
  -- A day: who asks the same later than that is not trying again.
  redis.call('SET', KEYS[6], turn .. 'o' .. ARGV[12], 'PXAT', string.format('%.0f', math.min(expires, now + 86400000)))
elseif completes == '1' then
  -- Ten minutes: what another node may take to put the attempt that this one was faster than.
  redis.call('SET', KEYS[6], turn .. 'd' .. ARGV[1], 'PXAT', string.format('%.0f', math.min(expires, now + 600000)))
end
return resumes and 3 or 1
"""
)

_REDECIDE = Script.of(
    CLOCK
    + KEEP
    + """
-- KEYS: subject, ledger, index, conversation, annotation, heads..., records that are set..., that go...
-- ARGV: mac that was seen, ledger length, generation, expires_at or 0, ledger_keep_until, turn, head value,
--       number of heads, number of records set, number that go, (expires_at, blob)..., (annotation field, value)...
local expires = tonumber(ARGV[4])
local heads, set, gone = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local mac = redis.call('HGET', KEYS[5], 'mac')
if not mac then return 2 end
if mac ~= ARGV[1] then return -7 end
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[2]) then return -4 end
-- Also where nothing is sealed anew: what an erasure has left behind for its sweep is not to live on.
if (redis.call('HGET', KEYS[1], 'gen') or '0') ~= ARGV[3] then return -2 end

-- What is over by this clock goes, whatever the clock of who decided says.
if expires <= now then expires = 0 end
for record = 1, gone do redis.call('DEL', KEYS[5 + heads + set + record]) end
for head = 1, heads do
  -- The pointer may be at another turn by now, which ended alike.
  if string.sub(redis.call('GET', KEYS[5 + head]) or '', 1, 32) == ARGV[7] then
    redis.call('PEXPIREAT', KEYS[5 + head], expires)
  end
end
if expires == 0 then
  for record = 1, set do redis.call('DEL', KEYS[5 + heads + record]) end
  redis.call('ZREM', KEYS[3], ARGV[6])
  redis.call('ZREM', KEYS[4], ARGV[6])
  redis.call('DEL', KEYS[5])
  return 2
end
for _, key in ipairs({KEYS[1], KEYS[3], KEYS[4]}) do keep(key, expires) end
keep(KEYS[2], tonumber(ARGV[5]))
for record = 1, set do
  if tonumber(ARGV[9 + 2 * record]) > now then
    redis.call('SET', KEYS[5 + heads + record], ARGV[10 + 2 * record], 'PXAT', ARGV[9 + 2 * record])
  else
    redis.call('DEL', KEYS[5 + heads + record])
  end
end
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[6])
redis.call('HSET', KEYS[5], unpack(ARGV, 11 + 2 * set))
redis.call('PEXPIREAT', KEYS[5], ARGV[4])
return 1
"""
)

_TRIM = Script.of(
    CLOCK
    + """
-- KEYS: subject, index, conversation. ARGV: most members of a conversation that are looked at
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if last[2] then redis.call('PEXPIREAT', KEYS[2], last[2]) end
-- The fence of an erasure outlives what is kept; a key does not.
local fence = redis.call('HMGET', KEYS[1], 'erased_at', 'gen_floor')
if not fence[1] and not fence[2] then
  if last[2] then redis.call('PEXPIREAT', KEYS[1], last[2]) else redis.call('DEL', KEYS[1]) end
end
if redis.call('ZCARD', KEYS[3]) > tonumber(ARGV[1]) then return 1 end
local latest = 0
for _, turn in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local at = redis.call('ZSCORE', KEYS[2], turn)
  if at then latest = math.max(latest, tonumber(at)) else redis.call('ZREM', KEYS[3], turn) end
end
if latest > 0 then redis.call('PEXPIREAT', KEYS[3], string.format('%.0f', latest)) end
return 1
"""
)

_CLAIM_DUE = Script.of(
    """
-- KEYS: list of who is due. ARGV: now, token of the first claim, most; tokens go up by one
local found = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])
for number, subject in ipairs(found) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', ARGV[2] + number - 1), subject)
end
return found
"""
)

_SETTLE_DUE = Script.of(
    """
-- KEYS: list of who is due. ARGV: subject, token, the next token or ''
local token = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not token or tonumber(token) ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
"""
)

_APPEND_EVENT = Script.of(
    CLOCK
    + KEEP
    + """
-- KEYS: ledger. ARGV: event, expected length, expires_at, channel, subject
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
if tonumber(ARGV[3]) <= now then return redis.error_reply('EXPIRED the ledger would end in the past') end
-- First what an ACL may forbid: then nothing is written. Who hears of it reads when the script has ended.
redis.call('PUBLISH', ARGV[4], ARGV[5])
redis.call('RPUSH', KEYS[1], ARGV[1])
keep(KEYS[1], tonumber(ARGV[3]))
return 1
"""
)

_SWAP_CONTROL = Script.of(
    """
-- KEYS: control value. ARGV: whether there must be an old one, the old one, the new one, channel, name
local found = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  if found ~= ARGV[2] then return 0 end
elseif found then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
"""
)

_SWAP_FIELD = Script.of(
    """
-- KEYS: hash. ARGV: field, the old value, the new one. The expiry of the hash stays as it is
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
)

_ADD_EPOCH_WRAP = Script.of(
    """
-- KEYS: epoch wraps. ARGV: day, wrap
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
"""
)


def put_turn(turn: SealedTurn) -> Call:
    """Keep a whole turn, or answer with the PutStatus that says why not.

    The checks run in this order: erase fence, key generation, ledger, expiry, replay.
    """
    subject = turn.subject
    attempt = turn.attempt
    # Of a turn without other attempts there is nothing to take the place of: no names of what to remove.
    replaceable = () if attempt is None else range(MOST_GROUPS)
    asked = turn.turn if attempt is None else attempt.asked
    announced = turn.turn if attempt is None else attempt.announced
    parent = None if attempt is None else attempt.parent
    own_attempt = keys.attempt(subject, asked)
    arguments: list[bytes | int] = [
        turn.received_at,
        turn.expires_at,
        turn.generation,
        turn.new_wrap or b"",
        turn.ledger_length,
        turn.ledger_keep_until,
        turn.turn,
        # Only an attempt that waits is ended by who continues it, so only its pointers say which it is.
        turn.conversation + turn.turn + (b"" if attempt is None or attempt.completes else attempt.asked),
        len(turn.heads),
        len(turn.groups),
        b"" if attempt is None else int(attempt.completes),
        0 if attempt is None else attempt.richness,
        announced,
        (attempt and attempt.waiting) or b"",
        int(attempt is not None and attempt.is_named),
        b"" if parent is None or turn.after is None else turn.after,
        len(replaceable),
        turn.grant_since,
    ]
    for group in turn.groups:
        arguments += (group.expires_at, group.blob)
    for item in turn.annotation.items():
        arguments += item
    return Call(
        script=_PUT_TURN,
        keys=[
            keys.subject(subject),
            keys.ledger(subject),
            keys.index(subject),
            keys.conversation(subject, turn.conversation),
            keys.annotation(subject, turn.turn),
            own_attempt,
            keys.other_name(subject, announced),
            keys.attempt(subject, parent) if parent else own_attempt,
            *keys.records(subject, turn.turn, replaceable),
            *[keys.head(subject, head) for head in turn.heads],
            *keys.records(subject, turn.turn, [group.number for group in turn.groups]),
        ],
        arguments=arguments,
    )


def redecide(turn: RedecidedTurn) -> Call:
    """Change a kept turn, or answer with the RedecideStatus that says why not."""
    subject = turn.subject
    arguments: list[bytes | int] = [
        turn.expected_mac,
        turn.ledger_length,
        turn.generation,
        turn.expires_at or 0,
        turn.ledger_keep_until,
        turn.turn,
        turn.conversation + turn.turn,
        len(turn.heads),
        len(turn.groups),
        len(turn.dropped),
    ]
    for group in turn.groups:
        arguments += (group.expires_at, group.blob)
    for item in turn.annotation.items():
        arguments += item
    return Call(
        script=_REDECIDE,
        keys=[
            keys.subject(subject),
            keys.ledger(subject),
            keys.index(subject),
            keys.conversation(subject, turn.conversation),
            keys.annotation(subject, turn.turn),
            *[keys.head(subject, head) for head in turn.heads],
            *keys.records(subject, turn.turn, [group.number for group in turn.groups]),
            *keys.records(subject, turn.turn, turn.dropped),
        ],
        arguments=arguments,
    )


_MOST_TRIMMED = 5_000
"""Members of one index that are looked at in one step: a few milliseconds."""


def trim(subject: SubjectTag, conversation: ConversationTag) -> Call:
    """Let a person's key and indexes, and that of one conversation, go with the last of what they are for."""
    return Call(
        script=_TRIM,
        keys=[
            keys.subject(subject),
            keys.index(subject),
            keys.conversation(subject, conversation),
        ],
        arguments=[_MOST_TRIMMED],
    )


def claim_due(due_list: bytes, *, now: int, until: int, most: int) -> Call:
    """Take who is due at *now*, in tokens, and put them off to *until*: answers with the subjects, in order."""
    return Call(script=_CLAIM_DUE, keys=[due_list], arguments=[now, until, most])


def settle_due(due_list: bytes, due: Due, *, next_token: int | None) -> Call:
    """Take who was claimed off the list, or put them off: answers 1, or 0 where the mark is another one."""
    return Call(
        script=_SETTLE_DUE,
        keys=[due_list],
        arguments=[due.subject, due.token, b"" if next_token is None else next_token],
    )


def append_event(subject: SubjectTag, event: bytes, *, expected_length: int, expires_at: int) -> Call:
    """Append *event* if the ledger is as long as expected, and tell who listens: answers 1, else 0."""
    return Call(
        script=_APPEND_EVENT,
        keys=[keys.ledger(subject)],
        arguments=[event, expected_length, expires_at, keys.CHANGED, subject],
    )


def swap_control(name: str, *, old: bytes | None, new: bytes) -> Call:
    """Set the value if it is still *old* (None: if there is none), and tell who listens: answers 1, else 0."""
    return Call(
        script=_SWAP_CONTROL,
        keys=[keys.control(name)],
        arguments=[int(old is not None), old or b"", new, keys.CONTROL_CHANGED, name.encode()],
    )


def add_epoch_wrap(day: int, wrap: bytes) -> Call:
    """Keep *wrap* for *day* unless there is one; answers with the one that is kept."""
    return Call(script=_ADD_EPOCH_WRAP, keys=[keys.EPOCH_WRAPS], arguments=[day, wrap])


def swap_subject_wrap(subject: SubjectTag, generation: int, *, old: bytes, new: bytes) -> Call:
    """Replace a wrapped subject key if it is still *old*: answers 1, else 0."""
    return Call(script=_SWAP_FIELD, keys=[keys.subject(subject)], arguments=[b"w%d" % generation, old, new])


def swap_epoch_wrap(day: int, *, old: bytes, new: bytes) -> Call:
    """Replace a wrapped epoch key if it is still *old*: answers 1, else 0."""
    return Call(script=_SWAP_FIELD, keys=[keys.EPOCH_WRAPS], arguments=[b"%d" % day, old, new])
