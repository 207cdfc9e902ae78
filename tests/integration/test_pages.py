"""The person's pages without a browser: what they say and do, to whom, and what goes with every answer."""

import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.consent.receipts import read_public_keys, verify_receipt
from chatproxy.policy.facts import Override
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.web.pages.headers import CONTENT_SECURITY_POLICY
from chatproxy.web.person_session import PREFIX
from integration.proxy_fixtures import ANA, DAY, World, a_world, chatting, http_client

BEN = {"x-chat-subject": "ben", "x-chat-plan": "pro"}
ELIF = {"x-chat-subject": "elif", "x-chat-plan": "team"}
XSS = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ENGLISH, FRENCH = {"accept-language": "en"}, {"accept-language": "fr"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def visible(page: str) -> str:
    """Return the text of a page; no space comes between a time and what follows it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"</?time[^>]*>", "", page))).split())


class Visitor:
    """Somebody with a browser that runs no script."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.text = ""

    async def open(self, path: str = "", *, status: int = 200) -> str:
        answer = await self.client.get(PREFIX + path)
        return self._seen(answer, status)

    async def submit(self, action: str, *, status: int = 200, **fields: str) -> str:
        """Send the form of the page that leads to *action*, with its hidden fields."""
        forms = re.findall(
            rf'<form[^>]* action="{re.escape(PREFIX + action)}">(.*?)</form>', self.text, re.DOTALL
        )
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', forms[0])
        answer = await self.client.post(
            PREFIX + action,
            data={name: html.unescape(value) for name, value in hidden} | fields,
            follow_redirects=True,
        )
        return self._seen(answer, status)

    def _seen(self, answer: httpx.Response, status: int) -> str:
        assert answer.status_code == status
        self.text = answer.text
        return visible(answer.text)


@asynccontextmanager
async def visiting(
    directory: Path,
    store: str,
    *,
    who: dict[str, str] = ANA,
    language: dict[str, str] = ENGLISH,
    **settings: Any,
) -> AsyncIterator[tuple[World, Visitor]]:
    async with (
        a_world(chatting(lambda number: f"reply {number}"), directory, store, **settings) as world,
        http_client(world.running.url, headers=who | language) as client,
    ):
        yield world, Visitor(client)


from_another_page = pytest.mark.parametrize(
    "headers, fields",
    [
        pytest.param({}, {"token": "wrong"}, id="a wrong token"),
        pytest.param({}, {}, id="no token"),
        pytest.param({"sec-fetch-site": "cross-site"}, None, id="another site"),
        pytest.param({"origin": "https://evil.example"}, None, id="another origin"),
    ],
)
"""How the form of another page comes; fields that are None are the right ones."""


async def the_handle(world: World, subject: str = "ana") -> str:
    await world.kept()
    [view] = await world.running.vault.person_desk.conversations(world.tag(subject))
    return view.handle


async def choices(world: World, subject: str = "ana") -> list[Choice | None]:
    history = await world.running.vault.person_desk.history(world.tag(subject))
    return [entry.choice for entry in reversed(history) if entry.kind == "choice"]


# --- the choice ---


async def test_who_has_not_chosen_is_offered_every_answer_alike(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (_, ana):
        said = await ana.open()

        assert "You have not chosen yet. That does not count as a yes." in said
        buttons = re.findall(r"<button([^>]*)>", ana.text)
        assert [re.sub(r"(yes|no|later)", "*", button) for button in buttons] == [
            ' name="choice" value="*"'
        ] * 3
        assert "checked" not in ana.text
        assert "autofocus" not in ana.text


@pytest.mark.parametrize(
    "answer, recorded, told",
    [
        ("yes", Choice.GIVEN, "Done: you said yes."),
        ("no", Choice.REFUSED, "Done: you said no."),
        ("later", Choice.DEFERRED, "Done: you choose later."),
    ],
)
async def test_an_answer_is_one_click_and_is_recorded_with_the_notice_that_was_read(
    tmp_path: Path, store: str, answer: str, recorded: Choice, told: str
) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await ana.open()
        said = await ana.submit("choice", choice=answer)

        assert told in said
        [event] = await world.running.vault.ledger.history(world.tag())
        record: Any = getattr(event, "record", None)
        assert await choices(world) == [recorded]
        assert record["event"]["method"] == f"button:{answer}"
        assert record["notice"]["screen"] == "page"
        assert record["notice"]["language"] == "en"
        assert record["account_plan"] == "pro"


async def test_what_a_step_came_to_is_told_once(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (_, ana):
        await ana.open()
        assert "Done:" in await ana.submit("choice", choice="yes")

        assert "Done:" not in await ana.open()


async def test_a_yes_is_withdrawn_by_one_click_on_the_same_page(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await ana.open()
        said = await ana.submit("choice", choice="yes")
        assert "This is your choice now" in said
        assert "Withdraw my yes" in said

        said = await ana.submit("choice", choice="no")

        assert "Done: your yes is withdrawn." in said
        assert "You withdrew your yes on" in said
        assert await choices(world) == [Choice.GIVEN, Choice.WITHDRAWN]


async def test_the_preview_says_what_each_answer_would_do(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("an older one")
        await world.kept()

        said = await ana.open()

        assert "1 older conversation may be used for training only if you continue it" in said
        assert "1 conversation of yours is kept until" in said
        assert "What you write from now on is kept until" in said


async def test_a_no_names_what_it_ends(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.choose(Choice.GIVEN)
        await world.chat("made under a yes")
        await world.kept()

        assert "1 conversation stops being used for training at once." in await ana.open()


async def test_after_the_deadline_later_is_no_answer(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, choice_deadline="2025-10-08T00:00:00Z") as (world, ana):
        said = await ana.open()
        assert "The time to choose ended on 8 October 2025, 00:00 UTC." in said
        assert 'value="later"' not in ana.text

        await ana.submit("choice", choice="later", status=409)

        assert await choices(world) == []


async def test_a_choice_about_other_words_is_none(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await ana.open()
        await ana.submit("choice", choice="yes", notice="0" * 64, status=403)

        assert await choices(world) == []


async def test_an_answer_that_is_none_changes_nothing(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await ana.open()
        await ana.submit("choice", choice="maybe", status=403)

        assert await choices(world) == []


async def test_on_an_exempt_plan_there_is_nothing_to_agree_to_and_a_yes_can_be_withdrawn(
    tmp_path: Path, store: str
) -> None:
    async with visiting(tmp_path, store, who=ELIF) as (world, elif_):
        await world.choose(Choice.GIVEN, subject="elif")

        said = await elif_.open()
        assert "Your plan is not part of this." in said
        assert 'value="yes"' not in elif_.text
        await elif_.submit("choice", choice="no")

        assert await choices(world, "elif") == [Choice.GIVEN, Choice.WITHDRAWN]


async def test_on_an_exempt_plan_a_yes_is_not_taken(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, who=ELIF) as (world, elif_):
        await world.choose(Choice.GIVEN, subject="elif")
        await elif_.open()
        await elif_.submit("choice", choice="yes", status=409)

        assert await choices(world, "elif") == [Choice.GIVEN]


# --- conversations ---


async def test_each_conversation_has_its_expiry_and_its_reason_in_words(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        assert "Nothing is kept of you." in await ana.open("conversations")
        await world.chat("hello")
        await world.kept()

        said = await ana.open("conversations")

        assert "Not used" in said
        assert "You have not chosen yet, which does not count as a yes." in said
        assert "CONSENT_UNKNOWN" not in said


@pytest.mark.parametrize(
    "setting, override",
    [("share", Override.SHARE), ("exclude", Override.EXCLUDE), ("follow", Override.INHERIT)],
)
@pytest.mark.parametrize("from_list", [True, False], ids=["from the list", "from its own page"])
async def test_one_conversation_is_shared_excluded_or_left_to_the_general_choice(
    tmp_path: Path, store: str, setting: str, override: Override, *, from_list: bool
) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        handle = await the_handle(world)
        if override is Override.INHERIT:
            await world.running.vault.person_desk.set_override(
                world.tag(), handle, Override.EXCLUDE, method="test"
            )
        await ana.open("conversations" if from_list else f"conversations/{handle}")

        said = await ana.submit(f"conversations/{handle}/setting", setting=setting)

        assert "Done: this conversation" in said
        assert f'value="{setting}" aria-pressed="true"' in ana.text
        [view] = await world.running.vault.person_desk.conversations(world.tag())
        assert view.override is override


async def test_a_share_that_a_later_no_has_ended_is_not_shown_as_one(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        handle = await the_handle(world)
        await world.running.vault.person_desk.set_override(world.tag(), handle, Override.SHARE, method="test")
        await world.choose(Choice.REFUSED)

        await ana.open("conversations")

        assert 'value="follow" aria-pressed="true"' in ana.text


async def test_of_an_incognito_conversation_no_share_is_offered(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello", who=ANA | {"x-chat-incognito": "?1"})
        await world.kept()

        await ana.open("conversations")

        assert 'value="share"' not in ana.text
        assert 'value="exclude"' in ana.text


async def test_what_was_said_is_read_and_is_inert(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat(XSS)
        handle = await the_handle(world)

        said = await ana.open(f"conversations/{handle}")

        assert XSS in said
        assert "<script>alert" not in ana.text
        assert "<img" not in ana.text
        assert "reply 0" in said


async def test_deleting_asks_first_says_what_stays_and_is_done_at_once(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        handle = await the_handle(world)

        said = await ana.open(f"conversations/{handle}/delete")
        assert "Delete this conversation?" in said
        assert "Nothing stays beyond that day." in said
        assert len(await world.running.vault.person_desk.history(world.tag())) == 0
        said = await ana.submit(f"conversations/{handle}/delete")

        assert "Done: the conversation is deleted." in said
        assert "You deleted this conversation." in said
        await ana.open(f"conversations/{handle}", status=404)


async def test_what_a_deletion_does_not_end_is_told_before_and_after(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        handle = await the_handle(world)
        desk = world.running.vault.person_desk
        [kept] = await world.turns()
        await world.running.vault.ledger.note(
            world.tag(), FactKind.FLAGGED, at=world.running.vault.clock(), by="test", method="test",
            scope=Scope(turn=kept.turn),
        )  # fmt: skip
        await world.decided_again()

        before = await ana.open(f"conversations/{handle}/delete")
        assert "A copy for safety review, until" in before
        after = await ana.submit(f"conversations/{handle}/delete")

        assert "A copy for safety review, until" in after
        assert [view.is_deleted for view in await desk.conversations(world.tag())] == [True]


async def test_feedback_is_taken_back_on_the_page_of_its_conversation(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        handle = await the_handle(world)
        desk = world.running.vault.person_desk
        await desk.give_feedback(world.tag(), handle, "thumbs", method="test")  # type: ignore[arg-type]
        await ana.open(f"conversations/{handle}")

        said = await ana.submit(f"conversations/{handle}/feedback", feedback="withdraw")

        assert "Done: your feedback is taken back." in said
        assert (await desk.conversation(world.tag(), handle)).feedback is None


async def test_many_conversations_come_in_pages(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        for number in range(21):
            await world.chat(f"hello {number}", who=ANA | {"x-chat-conversation": f"c{number}"})
        await world.kept()

        said = await ana.open("conversations")
        assert "21 conversations" in said
        assert "Page 1 of 2" in said
        assert ana.text.count("<article") == 20
        await ana.open("conversations?page=2")
        assert ana.text.count("<article") == 1
        await ana.open("conversations?page=999")
        assert ana.text.count("<article") == 1
        assert "?page=999&amp;lang=fr" in ana.text


# --- history ---


async def test_the_history_tells_each_choice_and_hands_out_receipts_that_verify(
    tmp_path: Path, store: str
) -> None:
    async with visiting(tmp_path, store) as (_, ana):
        await ana.open()
        await ana.submit("choice", choice="yes")
        await ana.submit("choice", choice="no")

        said = await ana.open("history")
        assert said.index("Yes withdrawn") < said.index("For all your conversations")
        receipts = re.findall(r'href="/_chatproxy/(history/[^"]+)"', ana.text)
        assert len(receipts) == 2
        keys = read_public_keys((await ana.client.get(PREFIX + "receipt-keys.json")).text, source="page")
        for path in receipts:
            answer = await ana.client.get(PREFIX + path)
            assert answer.headers["content-disposition"].startswith("attachment; ")
            assert verify_receipt(answer.content, publics=keys)["event"]["entity_id"] == "data_subject"


async def test_without_a_choice_the_history_is_empty(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (_, ana):
        assert "Nothing is on record for you." in await ana.open("history")


# --- who, and what is foreign ---


async def test_who_is_not_known_is_asked_who_they_are(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, who={}) as (_, nobody):
        for path in ("", "conversations", "history", "uses", "copy"):
            assert "Who are you?" in await nobody.open(path, status=401)


async def test_a_link_that_does_not_count_leads_to_the_question_who_one_is(
    tmp_path: Path, store: str
) -> None:
    async with visiting(tmp_path, store, who={}) as (_, nobody):
        assert "Who are you?" in await nobody.open("?link=old", status=401)


async def test_what_is_somebody_elses_looks_like_what_is_not_there(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, who=BEN) as (world, ben):
        await world.chat("hello")
        handle = await the_handle(world)

        foreign = await ben.client.get(f"{PREFIX}conversations/{handle}")
        unknown = await ben.client.get(f"{PREFIX}conversations/{handle[:-4]}aaaa")
        nonsense = await ben.client.get(f"{PREFIX}conversations/x")

        assert foreign.status_code == unknown.status_code == nonsense.status_code == 404
        assert foreign.text == unknown.text == nonsense.text


@pytest.mark.parametrize("action", ["delete", "setting", "feedback"])
async def test_nobody_acts_on_what_is_somebody_elses(tmp_path: Path, store: str, action: str) -> None:
    async with visiting(tmp_path, store, who=BEN) as (world, ben):
        await world.chat("hello")
        handle = await the_handle(world)
        await ben.open()
        token = re.findall(r'name="token" value="([^"]+)"', ben.text)[0]

        answer = await ben.client.post(
            f"{PREFIX}conversations/{handle}/{action}", data={"token": token, "setting": "exclude"}
        )

        assert answer.status_code == 404
        assert await world.running.vault.person_desk.history(world.tag()) == []


@from_another_page
async def test_a_form_of_another_page_changes_nothing(
    tmp_path: Path, store: str, headers: dict[str, str], fields: dict[str, str] | None
) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await ana.open()
        right = dict(re.findall(r'name="(token|notice)" value="([^"]+)"', ana.text))
        sent = (right if fields is None else {"notice": right["notice"]} | fields) | {"choice": "yes"}

        answer = await ana.client.post(f"{PREFIX}choice", data=sent, headers=headers)

        assert answer.status_code == 403
        assert await choices(world) == []


@pytest.mark.parametrize(
    "body, media_type",
    [
        pytest.param(b"choice=yes" + b"&x=y" * 10_000, "application/x-www-form-urlencoded", id="too large"),
        pytest.param(b'{"choice": "yes"}', "application/json", id="not a form"),
        pytest.param(b"\xff", "application/x-www-form-urlencoded", id="not ASCII"),
        pytest.param(b"", "application/x-www-form-urlencoded", id="empty"),
    ],
)
async def test_what_is_no_form_is_refused(tmp_path: Path, store: str, body: bytes, media_type: str) -> None:
    async with visiting(tmp_path, store) as (_, ana):
        answer = await ana.client.post(f"{PREFIX}choice", content=body, headers={"content-type": media_type})

        assert answer.status_code == 403


async def test_what_cannot_be_authenticated_is_not_shown(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        vault = world.running.vault
        await vault.store.append_event(
            world.tag(), b"forged", expected_length=0, expires_at=vault.clock() + DAY
        )

        assert "cannot be read just now" in await ana.open(status=503)


# --- languages and headers ---


async def test_the_language_is_the_browsers_until_another_is_asked_for_which_is_remembered(
    tmp_path: Path, store: str
) -> None:
    async with visiting(tmp_path, store, language=FRENCH) as (_, ana):
        assert "avez pas encore choisi." in await ana.open()
        assert '<html lang="fr">' in ana.text

        assert "You have not chosen yet." in await ana.open("?lang=en")
        assert "You have not chosen yet." in await ana.open()
        assert '<html lang="en">' in ana.text


async def test_a_receipt_names_the_language_in_which_the_notice_was_read(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, language=FRENCH) as (world, ana):
        await ana.open()
        await ana.submit("choice", choice="no")

        [event] = await world.running.vault.ledger.history(world.tag())
        assert json.loads(json.dumps(getattr(event, "record", {})))["notice"]["language"] == "fr"


@pytest.mark.parametrize(
    "path", ["", "conversations", "history", "uses", "copy", "conversations/x", "receipt-keys.json"]
)
async def test_every_answer_is_strict_about_what_a_browser_may_do(
    tmp_path: Path, store: str, path: str
) -> None:
    async with visiting(tmp_path, store) as (_, ana):
        headers = (await ana.client.get(PREFIX + path)).headers

        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["permissions-policy"]


@pytest.mark.parametrize("name", ["pages.css", "pages.js", "choice.js", "icon.svg"])
async def test_files_are_sent_once(tmp_path: Path, store: str, name: str) -> None:
    async with visiting(tmp_path, store, who={}) as (_, nobody):
        first = await nobody.client.get(PREFIX + name)
        again = await nobody.client.get(PREFIX + name, headers={"if-none-match": first.headers["etag"]})
        changed = await nobody.client.get(PREFIX + name, headers={"if-none-match": '"other"'})

        assert (first.status_code, again.status_code, changed.status_code) == (200, 304, 200)
        assert again.content == b""


async def test_a_page_carries_no_style_or_script_of_its_own_and_nothing_from_elsewhere(
    tmp_path: Path, store: str
) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        handle = await the_handle(world)
        for path in (
            "",
            "conversations",
            f"conversations/{handle}",
            f"conversations/{handle}/delete",
            "history",
            "uses",
            "copy",
        ):
            await ana.open(path)
            assert (
                re.findall(r"<script(?! src=\"/_chatproxy/)|<style| style=| on[a-z]+=|https?://", ana.text)
                == []
            )
