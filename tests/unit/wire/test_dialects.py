"""Who speaks at which path, what passes uncaptured, and errors in the client's own dialect."""

import json

import pytest

from chatproxy import wire
from chatproxy.model import Message
from chatproxy.wire.base import Dialect, Failure, first_new


@pytest.mark.parametrize(
    "method, path, name",
    [
        ("POST", "/v1/chat/completions", "openai_chat"),
        ("POST", "/v1/chat/completions/", "openai_chat"),
        ("POST", "/chat/completions", "openai_chat"),
        ("POST", "/openai/deployments/x/chat/completions", "openai_chat"),
        ("POST", "/v1/messages", "anthropic_messages"),
        ("POST", "/anthropic/v1/messages", "anthropic_messages"),
        ("GET", "/v1/chat/completions", None),
        ("GET", "/v1/messages", None),
        ("post", "/v1/messages", None),
        ("POST", "/v1/chat/completions/chatcmpl-1", None),
        ("POST", "/v1/messages/count_tokens", None),
        ("POST", "/v1/messages/batches", None),
        ("POST", "/v1/threads/t/messages", None),
        ("POST", "/", None),
    ],
)
def test_a_dialect_claims_its_own_path(method: str, path: str, name: str | None) -> None:
    dialect = wire.find_dialect(method, path)

    assert (dialect.name if dialect else None) == name


@pytest.mark.parametrize("dialect", wire.DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_is_found_by_its_name(dialect: Dialect) -> None:
    assert wire.dialect_named(dialect.name) is dialect


def test_an_unknown_name_finds_none() -> None:
    assert wire.dialect_named("raw") is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses",
        "/v1/completions",
        "/v1/messages/batches",
        "/v1beta/models/gemini-pro:generateContent",
        "/v1beta/models/gemini-pro:streamGenerateContent",
        "/v1/projects/p/publishers/anthropic/models/claude:streamRawPredict",
        "/api/chat",
        "/api/generate",
        "/model/m/converse-stream",
        "/model/m/invoke",
        "/v1/threads/t/runs",
    ],
)
def test_a_chat_of_no_dialect_is_noticed(path: str) -> None:
    assert wire.looks_like_chat("POST", path)
    assert not wire.looks_like_chat("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/models",
        "/",
        "/chat/history.json",
        "/v1beta/models/g:countTokens",
    ],
)
def test_what_is_captured_or_no_chat_is_not_warned_of(path: str) -> None:
    assert not wire.looks_like_chat("POST", path)


FAILURE = Failure(
    status=502, code="upstream_unreachable", message="The backend cannot be reached.", request_id="r-1"
)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/"])
def test_an_error_is_in_the_shape_of_openai_by_default(path: str) -> None:
    assert json.loads(wire.render_failure(path, FAILURE)) == {
        "error": {
            "message": "The backend cannot be reached.",
            "type": "server_error",
            "param": None,
            "code": "upstream_unreachable",
        }
    }


def test_an_error_is_in_the_shape_of_anthropic_where_that_is_spoken() -> None:
    assert json.loads(wire.render_failure("/v1/messages", FAILURE)) == {
        "type": "error",
        "error": {"type": "api_error", "message": "The backend cannot be reached."},
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    "status, openai, anthropic",
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (403, "permission_error", "permission_error"),
        (405, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (503, "server_error", "overloaded_error"),
        (599, "server_error", "api_error"),
    ],
)
def test_a_status_has_a_type_in_each_dialect(status: int, openai: str, anthropic: str) -> None:
    failure = Failure(status, "c", "m", "r")

    assert json.loads(wire.render_failure("/", failure))["error"]["type"] == openai
    assert json.loads(wire.render_failure("/v1/messages", failure))["error"]["type"] == anthropic


@pytest.mark.parametrize(
    "roles, expected",
    [
        pytest.param("", 0, id="nothing"),
        pytest.param("su", 0, id="a first message"),
        pytest.param("suau", 3, id="after the last answer"),
        pytest.param("uatu", 2, id="results of tools are new"),
        pytest.param("uaua", 2, id="a prefill is new"),
        pytest.param("uauaa", 2, id="a prefill in two messages is new"),
        pytest.param("ua", 0, id="a prefill of a first answer"),
        pytest.param("aa", 0, id="only answers"),
        pytest.param("uasu", 2, id="instructions after the last answer are new"),
    ],
)
def test_only_what_follows_the_last_answer_is_new(roles: str, expected: int) -> None:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}

    assert first_new([Message(names[role], ()) for role in roles]) == expected
