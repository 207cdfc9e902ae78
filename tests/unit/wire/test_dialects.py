"""Who speaks at which path, what passes uncaptured, and errors in the client's own dialect."""

import json

import pytest

from chatproxy.model import Message
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.base import Dialect, Failure, first_new
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions

SPOKEN = Dialects(DIALECTS)


@pytest.mark.parametrize(
    "method, path, name",
    [
        ("POST", "/v1/chat/completions", "openai_chat"),
        ("POST", "/v1/chat/completions/", "openai_chat"),
        ("POST", "/chat/completions", "openai_chat"),
        ("POST", "/openai/deployments/x/chat/completions", "openai_chat"),
        ("POST", "/v1/messages", "anthropic_messages"),
        ("POST", "/anthropic/v1/messages", "anthropic_messages"),
        ("POST", "/v1/responses", "openai_responses"),
        ("POST", "/openai/responses/", "openai_responses"),
        ("POST", "/v1beta/models/gemini-pro:generateContent", "gemini"),
        ("POST", "/v1beta/models/gemini-pro%3AstreamGenerateContent", "gemini"),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", "gemini"),
        ("POST", "/api/chat", "ollama"),
        ("POST", "/ollama/api/generate", "ollama"),
        ("GET", "/v1/responses", None),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("POST", "/v1/responses/input_tokens", None),
        ("POST", "/v1beta/models/gemini-pro:countTokens", None),
        ("POST", "/api/embed", None),
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
    dialect = SPOKEN.find(method, path)

    assert (dialect.name if dialect else None) == name


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_is_found_by_its_name(dialect: Dialect) -> None:
    assert SPOKEN.named(dialect.name) is dialect


def test_an_unknown_name_finds_none() -> None:
    assert SPOKEN.named("raw") is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/messages/batches",
        "/v1beta/models/gemini-pro:generateMessage",
        "/v1/projects/p/publishers/anthropic/models/claude:streamRawPredict",
        "/chat",
        "/generate",
        "/model/m/converse-stream",
        "/model/m/invoke",
        "/v1/threads/t/runs",
    ],
)
def test_a_chat_of_no_dialect_is_noticed(path: str) -> None:
    assert SPOKEN.looks_like_chat("POST", path)
    assert not SPOKEN.looks_like_chat("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1beta/models/gemini-pro:generateContent",
        "/v1beta/models/gemini-pro:streamGenerateContent",
        "/api/chat",
        "/api/generate",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/models",
        "/",
        "/chat/history.json",
        "/v1beta/models/g:countTokens",
    ],
)
def test_what_is_captured_or_no_chat_is_not_warned_of(path: str) -> None:
    assert not SPOKEN.looks_like_chat("POST", path)


FAILURE = Failure(
    status=502, code="upstream_unreachable", message="The backend cannot be reached.", request_id="r-1"
)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/models", "/"])
def test_an_error_is_in_the_shape_of_openai_by_default(path: str) -> None:
    assert json.loads(SPOKEN.render_failure("POST", path, FAILURE)) == {
        "error": {
            "message": "The backend cannot be reached.",
            "type": "server_error",
            "param": None,
            "code": "upstream_unreachable",
        }
    }


def test_an_error_is_in_the_shape_of_anthropic_where_that_is_spoken() -> None:
    assert json.loads(SPOKEN.render_failure("POST", "/v1/messages", FAILURE)) == {
        "type": "error",
        "error": {"type": "api_error", "message": "The backend cannot be reached."},
        "request_id": "r-1",
    }


def test_an_error_is_in_the_shape_of_gemini_where_that_is_spoken() -> None:
    assert json.loads(SPOKEN.render_failure("POST", "/v1beta/models/g:generateContent", FAILURE)) == {
        "error": {
            "code": 502,
            "message": "The backend cannot be reached.",
            "status": "INTERNAL",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "UPSTREAM_UNREACHABLE",
                    "domain": "chatproxy",
                    "metadata": {"request_id": "r-1"},
                }
            ],
        }
    }


def test_an_error_is_in_the_shape_of_ollama_where_that_is_spoken() -> None:
    assert json.loads(SPOKEN.render_failure("POST", "/api/chat", FAILURE)) == {
        "error": "The backend cannot be reached."
    }


def test_an_error_for_another_method_is_in_the_dialect_of_the_path() -> None:
    assert SPOKEN.render_failure("GET", "/api/chat", FAILURE) == SPOKEN.render_failure(
        "POST", "/api/chat", FAILURE
    )


def test_of_two_dialects_that_claim_a_path_the_first_speaks() -> None:
    (described,) = read_descriptions('[bot]\npath = "/api/chat"\nrequest_text = "q"\nreply_text = "a"')
    both = Dialects([JSONChat(described), *DIALECTS])
    found = both.find("POST", "/api/chat")

    assert found is not None
    assert found.name == "json:bot"
    assert both.find("POST", "/api/generate") is both.named("ollama")


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

    assert json.loads(SPOKEN.render_failure("POST", "/", failure))["error"]["type"] == openai
    assert json.loads(SPOKEN.render_failure("POST", "/v1/messages", failure))["error"]["type"] == anthropic


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
