"""What must happen in the store in one step, so that a person, or an old key of theirs, is gone for good?

The rules of :mod:`chatproxy.store.scripts` hold here too. Beyond them:

1. A key that is destroyed never comes back: ``gen_floor`` says up to which generation there is none, and lives as long
   as anything that was sealed before can turn up again.
2. Removing goes by the generation that a record itself names. What lies under a later one is the writing of a person
   who came back, and is not touched.
3. Nothing here fails on a key of the wrong type: what somebody else has put there goes too.
4. What an erasure destroys is written down in the same step, and what its sweep removes is counted in the same step, so
   that whoever finishes it knows the whole of it. ``gone``: turns, ledger events, and for each generation of the key that
   was destroyed the version of the KEK that it lay under.
"""

from collections.abc import Sequence

from chatproxy.model import SubjectTag, TurnId
from chatproxy.ports import MOST_GROUPS, Doomed, NewKey, ResealedTurn
from chatproxy.store import keys
from chatproxy.store.scripts import CLOCK, KEEP, Call, Script

_FENCE = """
-- The later of two clocks, and what clocks may be apart: a node that is ahead has no later instants than this.
local function fence(at, apart, before)
  return math.max(math.max(now, at) + apart, tonumber(before or '0'))
end
"""

_COUNT = """
-- What a sweep removes counts as long as its erasure is not finished.
local function count(subject, turns, records, names)
  if redis.pcall('HEXISTS', subject, 'gone') ~= 1 then return end
  redis.call('HINCRBY', subject, 'swept_turns', turns)
  redis.call('HINCRBY', subject, 'swept_records', records)
  redis.call('HINCRBY', subject, 'swept_names', names)
end
"""

_ERASE = Script.of(
    CLOCK
    + KEEP
    + _FENCE
    + """
-- KEYS: subject, ledger, index. ARGV: the node's clock, how far clocks may be apart, how long the fence stands, ledger
--       length, channel, subject tag, generation that stays or 0, ledger_keep_until, events for the ledger...
local fields = redis.call('HGETALL', KEYS[1])
local events, turns = redis.call('LLEN', KEYS[2]), redis.call('ZCARD', KEYS[3])
local stays = tonumber(ARGV[7])
local known, gone, last = {}, {}, stays - 1
for at = 1, #fields, 2 do known[fields[at]] = fields[at + 1] end
local is_held = stays > 0
if #fields == 0 and events == 0 and turns == 0 then return {0} end
local at = fence(tonumber(ARGV[1]), tonumber(ARGV[2]), known['erased_at'])
local until_then = at + tonumber(ARGV[3])
if known['erased_at'] and not known['gen'] and events == 0 and turns == 0 then
  -- Nothing has come since the erasure before: only the fence moves on.
  redis.call('HSET', KEYS[1], 'erased_at', string.format('%.0f', at))
  keep(KEYS[1], until_then)
  return {0}
end
if events ~= tonumber(ARGV[4]) then return {-4} end
if is_held and (known['gen'] ~= ARGV[7] or not known['w' .. ARGV[7]]) then return {-2} end

local all, lost, noted = turns, events, {}
if known['gone'] then
  -- An erasure before is not finished: this one ends with the whole of both.
  local before_turns, before_lost, before = string.match(known['gone'], '^(%d+) (%d+) (.*)$')
  all, lost = math.max(all, tonumber(before_turns)), lost + tonumber(before_lost)
  if before ~= '' then table.insert(noted, before) end
end

if not is_held then last = math.max(tonumber(known['gen'] or '0'), tonumber(known['gen_floor'] or '0')) end
for name, wrap in pairs(known) do
  local generation = tonumber(string.match(name, '^w(%d+)$'))
  if generation and generation ~= stays then
    redis.call('HDEL', KEYS[1], name)
    table.insert(gone, generation)
    local high, low = string.byte(wrap, 3, 4)
    table.insert(noted, generation .. ':' .. (low and high * 256 + low or 0))
    if not is_held then last = math.max(last, generation) end
  end
end
-- Turns whose key was lost: nobody knows of which generations, so the next one is beyond all that there have been.
if not known['gen'] and not known['gen_floor'] and turns > 0 then last = math.max(last, 32767) end
if not is_held then redis.call('HDEL', KEYS[1], 'gen', 'gen_at') end
redis.call('HDEL', KEYS[1], 'erasing')
redis.call('HSET', KEYS[1], 'erased_at', string.format('%.0f', at), 'gen_floor', string.format('%.0f', last),
  'gone', string.format('%.0f %.0f ', all, lost) .. table.concat(noted, ','))
if is_held then
  keep(KEYS[1], until_then)
else
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', until_then))
end
if not is_held then redis.call('DEL', KEYS[2]) end
for event = 9, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[event]) end
if #ARGV > 8 then keep(KEYS[2], tonumber(ARGV[8])) end
redis.call('PUBLISH', ARGV[5], ARGV[6])
return {1, at, turns, events, gone}
"""
)

_RENEW = Script.of(
    CLOCK
    + KEEP
    + _FENCE
    + """
-- KEYS: subject. ARGV: generation that is, the next one, its wrap, channel, subject tag, whether this begins an
--       erasure, the node's clock, how far clocks may be apart
local found = redis.call('HMGET', KEYS[1], 'gen', 'erasing')
-- What an erasure has left under older keys is not to come under a new one.
if found[1] ~= ARGV[1] or (found[2] and ARGV[6] ~= '1') then return 0 end
redis.call('HSET', KEYS[1], 'gen', ARGV[2], 'w' .. ARGV[2], ARGV[3], 'gen_at', string.format('%.0f', now))
if ARGV[6] == '1' then
  local at = fence(tonumber(ARGV[7]), tonumber(ARGV[8]), redis.call('HGET', KEYS[1], 'erased_at'))
  redis.call('HSET', KEYS[1], 'erasing', '1', 'erased_at', string.format('%.0f', at))
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
"""
)

_RESEAL = Script.of(
    CLOCK
    + """
-- KEYS: subject, annotation, records... ARGV: generation, mac that was seen, (expires_at, blob)...
if redis.call('HGET', KEYS[1], 'gen') ~= ARGV[1] then return -2 end
local mac = redis.call('HGET', KEYS[2], 'mac')
if not mac then return 2 end
if mac ~= ARGV[2] then return -7 end
for number = 3, #KEYS do
  local at = 2 * number - 3
  if tonumber(ARGV[at]) > now then redis.call('SET', KEYS[number], ARGV[at + 1], 'PXAT', ARGV[at]) end
end
return 1
"""
)

_RETIRE = Script.of(
    CLOCK
    + KEEP
    + """
-- KEYS: subject. ARGV: generation that stays, how long the floor stands, channel, subject tag
if redis.call('HGET', KEYS[1], 'gen') ~= ARGV[1] then return {} end
local stays, gone = tonumber(ARGV[1]), {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local generation = tonumber(string.match(name, '^w(%d+)$'))
  if generation and generation < stays then
    redis.call('HDEL', KEYS[1], name)
    table.insert(gone, generation)
  end
end
redis.call('HSET', KEYS[1], 'gen_floor', string.format('%.0f', stays - 1), 'rolled_at', string.format('%.0f', now))
keep(KEYS[1], now + tonumber(ARGV[2]))
redis.call('PUBLISH', ARGV[3], ARGV[4])
return gone
"""
)

_SWEEP_TURN = Script.of(
    _COUNT
    + """
-- KEYS: subject, index, annotation, all records of the turn, conversation and heads if they are known...
-- ARGV: turn, number of records, conversation and turn as a head begins or ''
local floor = tonumber(redis.call('HGET', KEYS[1], 'gen_floor') or '0')
local records = tonumber(ARGV[2])
for number = 4, 3 + records do
  local head = redis.pcall('GETRANGE', KEYS[number], 6, 7)
  if type(head) == 'string' and #head == 2 then
    if string.byte(head, 1) * 256 + string.byte(head, 2) > floor then return {0, 0, 0} end
  end
end
local annotations, sealed, heads = redis.call('DEL', KEYS[3]), 0, 0
for number = 4, 3 + records do sealed = sealed + redis.call('DEL', KEYS[number]) end
redis.pcall('ZREM', KEYS[2], ARGV[1])
if ARGV[3] ~= '' then
  redis.pcall('ZREM', KEYS[4 + records], ARGV[1])
  for number = 5 + records, #KEYS do
    local head = redis.pcall('GET', KEYS[number])
    if type(head) == 'string' and string.sub(head, 1, 32) == ARGV[3] then heads = heads + redis.call('DEL', KEYS[number]) end
  end
end
count(KEYS[1], annotations, sealed, heads)
return {annotations, sealed, heads}
"""
)

_SWEEP_POINTER = Script.of(
    _COUNT
    + """
-- KEYS: pointer, annotation that it leads to, subject. ARGV: what the pointer was seen to say
if redis.call('EXISTS', KEYS[2]) == 1 or redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
count(KEYS[3], 0, 0, 1)
return redis.call('DEL', KEYS[1])
"""
)

_SWEEP_MEMBERS = Script.of(
    _COUNT
    + """
-- KEYS: index, subject, annotations... ARGV: members, each of the annotation in its place
local gone = 0
for number, member in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[2 + number]) == 0 then gone = gone + redis.call('ZREM', KEYS[1], member) end
end
count(KEYS[2], 0, 0, gone)
return gone
"""
)

_CONCLUDE = Script.of(
    """
-- KEYS: subject. ARGV: the fence that was seen, certificate
if redis.call('HGET', KEYS[1], 'erased_at') ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'gone') == 0 then return 0 end
redis.call('HDEL', KEYS[1], 'gone', 'swept_turns', 'swept_records', 'swept_names')
redis.call('HSET', KEYS[1], 'certificate', ARGV[2])
return 1
"""
)

_FORGET_CERTIFICATE = Script.of(
    """
-- KEYS: subject. ARGV: certificate
if redis.call('HGET', KEYS[1], 'certificate') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'certificate')
"""
)


def erase(
    subject: SubjectTag,
    *,
    at: int,
    apart: int,
    stands: int,
    ledger_length: int,
    stays: int | None,
    events: Sequence[bytes],
    ledger_keep_until: int,
) -> Call:
    """Destroy a person's keys and ledger, and set the fence; where a generation stays, so does the ledger.

    Answers [0] where there was nothing, [-2] or [-4] where generation or ledger are others than was seen, else
    [1, erased_at, turns, events, generations that are gone].
    """
    return Call(
        script=_ERASE,
        keys=[keys.subject(subject), keys.ledger(subject), keys.index(subject)],
        arguments=[
            at,
            apart,
            stands,
            ledger_length,
            keys.CHANGED,
            subject,
            stays or 0,
            ledger_keep_until,
            *events,
        ],
    )


def renew(subject: SubjectTag, *, before: int, key: NewKey, erasing: bool, at: int, apart: int) -> Call:
    """Have a person's records sealed under another key from now on; older ones open still. Answers 1, else 0."""
    return Call(
        script=_RENEW,
        keys=[keys.subject(subject)],
        arguments=[before, key.generation, key.wrap, keys.CHANGED, subject, int(erasing), at, apart],
    )


def reseal(turn: ResealedTurn) -> Call:
    """Replace the records of a turn if its annotation is the one that was seen; answers as ``RedecideStatus``."""
    arguments: list[bytes | int] = [turn.generation, turn.expected_mac]
    for group in turn.groups:
        arguments += [group.expires_at, group.blob]
    return Call(
        script=_RESEAL,
        keys=[
            keys.subject(turn.subject),
            keys.annotation(turn.subject, turn.turn),
            *(keys.record(turn.subject, turn.turn, group.number) for group in turn.groups),
        ],
        arguments=arguments,
    )


def retire(subject: SubjectTag, *, stays: int, stands: int) -> Call:
    """Destroy a person's keys before generation *stays*; answers with the generations that are gone."""
    return Call(
        script=_RETIRE, keys=[keys.subject(subject)], arguments=[stays, stands, keys.CHANGED, subject]
    )


def sweep_turn(subject: SubjectTag, doomed: Doomed) -> Call:
    """Remove a turn whose key is gone: answers with the numbers of annotations, records and heads removed."""
    conversation = doomed.conversation
    more = [] if conversation is None else [keys.conversation(subject, conversation)]
    return Call(
        script=_SWEEP_TURN,
        keys=[
            keys.subject(subject),
            keys.index(subject),
            keys.annotation(subject, doomed.turn),
            *(keys.record(subject, doomed.turn, number) for number in range(MOST_GROUPS)),
            *more,
            *(keys.head(subject, head) for head in doomed.heads if more),
        ],
        arguments=[doomed.turn, MOST_GROUPS, b"" if conversation is None else conversation + doomed.turn],
    )


def sweep_pointer(subject: SubjectTag, pointer: bytes, turn: TurnId, *, seen: bytes) -> Call:
    """Remove a pointer to a turn that is not kept."""
    return Call(
        script=_SWEEP_POINTER,
        keys=[pointer, keys.annotation(subject, turn), keys.subject(subject)],
        arguments=[seen],
    )


def sweep_members(subject: SubjectTag, index: bytes, turns: Sequence[TurnId]) -> Call:
    """Take turns that are not kept out of an index."""
    return Call(
        script=_SWEEP_MEMBERS,
        keys=[index, keys.subject(subject), *(keys.annotation(subject, turn) for turn in turns)],
        arguments=list(turns),
    )


def conclude(subject: SubjectTag, *, erased_at: int, certificate: bytes) -> Call:
    """Put the certificate of an erasure in the place of what it has written down: answers 1, else 0."""
    return Call(script=_CONCLUDE, keys=[keys.subject(subject)], arguments=[erased_at, certificate])


def forget_certificate(subject: SubjectTag, certificate: bytes) -> Call:
    """Take a certificate out that was handed over: answers 1, or 0 where there is another one."""
    return Call(script=_FORGET_CERTIFICATE, keys=[keys.subject(subject)], arguments=[certificate])
