"""The commands on what is stored: consent, transcripts, doctor. Run as processes, against a real store."""

import json
import os
import socket
from pathlib import Path

import pytest

from chatproxy.policy.instants import parse_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import ANA, World, a_world, chatting
from integration.serve_process import call, environment


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def two_chats(world: World) -> None:
    await world.chat("hello \x1b[31m there", who=ANA | {"x-chat-conversation": "mine"})
    await world.chat("hello", who={"x-chat-subject": "bea", "x-chat-plan": "free"})
    await world.kept()


async def test_a_choice_is_recorded_shown_and_remembered(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    none = await call(env, "consent", "show", "-", stdin="ana\n")
    assert (none.status, "counts as no" in none.out) == (0, True)
    for verb in ("give", "withdraw", "defer", "refuse"):
        done = await call(env, "consent", verb, "-", "--json", stdin="ana\n")
        assert done.status == 0, done.err
    history = (await call(env, "consent", "history", "ana", "--json")).rows()
    assert [event["choice"] for event in history] == ["given", "withdrawn", "deferred", "refused"]
    recorded = [parse_instant(event["at"]) for event in history]
    assert recorded == sorted(recorded)
    assert len({event["receipt_id"] for event in history}) == 4
    [last] = (await call(env, "consent", "show", "ana", "--json")).rows()
    assert last == history[-1]
    elsewhere = await call(env, "consent", "history", "ana", "--tenant", "other", "--json")
    assert elsewhere.rows() == []


async def test_consent_names_who_recorded_it_by_the_system_and_not_by_the_environment(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store) | {"LOGNAME": "forged", "USER": "forged"}
    [event] = (await call(env, "consent", "give", "ana", "--json")).rows()
    assert event["by"].startswith("operator:")
    assert "forged" not in event["by"]


@pytest.mark.parametrize(
    "words", [("consent", "give", "-"), ("consent", "show", "")], ids=["stdin", "argument"]
)
async def test_an_empty_subject_is_a_usage_error(words: tuple[str, ...], tmp_path: Path, store: str) -> None:
    refused = await call(environment(tmp_path, store=store), *words, stdin="\n")
    assert refused.status == 2


async def test_subjects_are_named_alike_by_front_and_command(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    await call(env, "consent", "give", " ana ")
    assert len((await call(env, "consent", "history", "-", "--json", stdin="ana\n")).rows()) == 1
    odd = await call(env, "consent", "show", os.fsdecode(b"\xff\xfe"))
    assert odd.status in {0, 2}
    assert "Traceback" not in odd.err


async def test_a_tampered_ledger_is_said_and_not_built_upon(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    env = environment(tmp_path, store=store)
    await call(env, "consent", "give", "ana")
    [[ledger]] = await connections.ask([["KEYS", "cp:*:c"]])
    [event] = await connections.ask([["LINDEX", ledger, 0]])
    await connections.ask([["LSET", ledger, 0, event.replace(b"Given", b"Gifen")]])
    for verb in ("show", "history", "withdraw"):
        refused = await call(env, "consent", verb, "ana")
        assert refused.status in {1, 3}
        assert "Traceback" not in refused.err


async def test_transcripts_are_listed_by_person_and_conversation(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await two_chats(world)
    every = (await call(env, "transcripts", "list", "--json")).rows()
    assert len(every) == 2
    [hers] = (await call(env, "transcripts", "list", "--subject", "ana", "--json")).rows()
    for words in (
        ("--conversation", "mine", "--subject", "ana"),
        ("--conversation", hers["conversation"]),
        ("--conversation", hers["conversation"], "--subject", "ana"),
    ):
        assert (await call(env, "transcripts", "list", *words, "--json")).rows() == [hers]
    assert (await call(env, "transcripts", "list", "--subject", "ana*", "--json")).rows() == []
    foreign = await call(
        env, "transcripts", "list", "--conversation", hers["conversation"], "--subject", "bea"
    )
    assert foreign.status == 1
    assert (await call(env, "transcripts", "list", "--conversation", "mine")).status == 2
    table = await call(env, "transcripts", "list")
    assert table.out.splitlines()[0].split() == [
        "RECEIVED", "EXPIRES", "PLAN", "REASON", "ELIGIBLE", "END", "DIALECT", "BYTES", "CONVERSATION",
    ]  # fmt: skip


async def test_a_transcript_is_shown_for_a_purpose_and_cannot_steer_the_terminal(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await two_chats(world)
    shown = await call(
        env, "transcripts", "show", "mine", "--subject", "-", "--purpose", "service", stdin="ana\n"
    )
    assert shown.status == 0
    assert "\x1b" not in shown.out
    assert "user: hello \\x1b[31m there" in shown.out
    [document] = (
        await call(env, "transcripts", "show", "mine", "--subject", "ana", "--purpose", "service", "--json")
    ).rows()
    assert [message["role"] for message in document["messages"]] == ["user", "assistant"]
    refused = await call(env, "transcripts", "show", "mine", "--subject", "ana", "--purpose", "capability")
    assert (refused.status, "ground" in refused.err) == (1, True)
    unknown = await call(env, "transcripts", "show", "yours", "--subject", "ana", "--purpose", "service")
    foreign = await call(env, "transcripts", "show", "mine", "--subject", "bea", "--purpose", "service")
    assert (unknown.status, foreign.status, unknown.err) == (1, 1, foreign.err)
    assert (
        await call(env, "transcripts", "show", "mine", "--subject", "ana", "--purpose", "fun")
    ).status == 2
    log = (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["action"] for line in log] == [
        "transcripts.read", "transcripts.read", "transcripts.refused",
    ]  # fmt: skip


async def test_a_tampered_annotation_is_found_by_the_listing_and_not_shown(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await two_chats(world)
        [row] = [row for row in await world.kept() if row["plan"] == "pro"]
    [names] = await connections.ask([["KEYS", f"cp:{{{row['subject']}}}:a:*"]])
    [body] = await connections.ask([["HGET", names[0], "body"]])
    await connections.ask([["HSET", names[0], "body", body.replace(b"pro", b"max")]])
    listed = await call(env, "transcripts", "list", "--json")
    assert (listed.status, len(listed.rows())) == (3, 1)
    assert "annotation_mac" in listed.err
    of_it = await call(env, "transcripts", "list", "--conversation", "mine", "--subject", "ana")
    assert of_it.status == 3
    shown = await call(env, "transcripts", "show", "mine", "--subject", "ana", "--purpose", "service")
    assert (shown.status, shown.out) == (1, "")


async def test_without_its_store_a_command_fails_in_words(tmp_path: Path) -> None:
    env = environment(tmp_path, store="redis://user:canary@127.0.0.1:9")
    failed = await call(env, "transcripts", "list")
    assert failed.status == 1
    assert "127.0.0.1:9" in failed.err
    assert "canary" not in failed.err
    assert "Traceback" not in failed.err


async def test_doctor_finds_what_is_wrong_and_passes_what_is_not(tmp_path: Path, store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as behind:
        upstream = f"http://127.0.0.1:{behind.getsockname()[1]}"
        env = environment(tmp_path, store=store, upstream=upstream)
        well = await call(env, "doctor", "--json")
        assert well.status == 0, well.out
        assert {row["check"] for row in well.rows()} == {
            "settings", "keyset", "store", "clock", "key ring", "erasure horizon", "policy", "upstream",
            "identity", "choice", "notices", "store rights", "swap", "room",
        }  # fmt: skip
    ill = await call(env | {"CHATPROXY_KEYSET": f"file:{tmp_path}/none"}, "doctor", "--json")
    assert ill.status == 3
    assert {row["check"] for row in ill.rows() if row["state"] == "fatal"} == {"keyset", "upstream"}
    for wrong in ({"CHATPROXY_UPSTREAM": "http://127.0.0.1/a/../b"}, {"CHATPROXY_WORKERS": "none"}):
        assert (await call(env | wrong, "doctor")).status == 3


async def test_a_receipt_is_printed_and_verified_by_anyone_with_the_public_key(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    [event] = (await call(env, "consent", "refuse", "ana", "--json")).rows()
    receipt = await call(env, "consent", "receipt", "-", event["receipt_id"], stdin="ana\n")
    assert receipt.status == 0, receipt.err
    path, keys = tmp_path / "receipt.json", tmp_path / "keys.json"
    path.write_text(receipt.out)
    keys.write_text((await call(env, "keys", "public")).out)
    nothing = {name: value for name, value in env.items() if not name.startswith("CHATPROXY_")}
    for words, where in ((("--key", str(keys)), nothing), ((), env)):
        genuine = await call(where, "consent", "verify", str(path), *words)
        assert (genuine.status, "Genuine: ConsentRefused" in genuine.out) == (0, True), genuine.err
    path.write_text(receipt.out.replace("ConsentRefused", "ConsentGiven"))
    forged = await call(nothing, "consent", "verify", str(path), "--key", str(keys))
    assert (forged.status, "NOT GENUINE" in forged.out) == (3, True)
    forged = await call(nothing, "consent", "verify", str(path), "--key", str(keys), "--json")
    assert (forged.status, forged.rows()) == (3, [{"genuine": False, "reason": "receipt_signature"}])


async def test_a_receipt_of_another_person_is_not_found(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    [event] = (await call(env, "consent", "give", "ana", "--json")).rows()
    for subject, name in (("ben", event["receipt_id"]), ("ana", "receipt-x")):
        refused = await call(env, "consent", "receipt", subject, name)
        assert (refused.status, refused.out) == (1, "")
        assert "there is no receipt of that name" in refused.err
