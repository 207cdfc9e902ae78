"""The descriptions are valid OpenAPI 3.1, and describe what is served: all of it, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from chatproxy.clock import wall_clock
from chatproxy.consent.notices import NO_TERMS
from chatproxy.crypto.keys import PseudonymKey
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.identities.operators import Operators, Role
from chatproxy.identity import HeaderIdentity
from chatproxy.model import SubjectTag
from chatproxy.ports import AuditLog
from chatproxy.rates import Buckets, Rate
from chatproxy.telemetry import Metrics
from chatproxy.web.api.admin import AdminAPI
from chatproxy.web.api.happened import HappenedOperations
from chatproxy.web.api.person import PersonAPI
from chatproxy.web.operator_door import OperatorDoor
from chatproxy.web.person_session import Limits, PersonSessions
from chatproxy.web.rights import RIGHTS
from chatproxy.workflows.happenings import Happenings
from chatproxy.workflows.import_choices import ChoiceImport
from chatproxy.workflows.person import PersonDesk

DESK = cast("PersonDesk", None)
SESSIONS = PersonSessions(
    HeaderIdentity(),
    lambda _, __: SubjectTag(bytes(16)),
    lambda: PseudonymKey(bytes(range(32))),
    clock=wall_clock,
    metrics=Metrics(),
    exempt_plans=(),
    public_url=None,
    origins=(),
    link_seconds=1,
    session_seconds=1,
    limits=Limits(Buckets(Rate(1, 1)), Buckets(Rate(1, 1))),
)
PERSON = PersonAPI(DESK, SESSIONS, NO_TERMS, clock=wall_clock, new_request_id=lambda: "req_test")
ADMIN = AdminAPI(
    DESK,
    SESSIONS,
    NO_TERMS,
    subject_tag=lambda _, __: SubjectTag(bytes(16)),
    new_import=lambda _: cast("ChoiceImport", None),
    door=OperatorDoor(Operators(), clock=wall_clock, metrics=Metrics()),
    audit=cast("AuditLog", None),
    new_request_id=lambda: "req_test",
    more=HappenedOperations(
        cast("Happenings", None), DESK, cast("Pseudonymizer", None), clock=wall_clock
    ).operations(),
)
BOTH = pytest.mark.parametrize("api", [PERSON, ADMIN], ids=["person", "admin"])


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


@BOTH
def test_a_description_is_valid_openapi(api: PersonAPI | AdminAPI) -> None:
    OpenAPIV31SpecValidator(json.loads(json.dumps(api.description()))).validate()


@BOTH
def test_every_route_is_described_and_every_description_is_served(api: PersonAPI | AdminAPI) -> None:
    described = {path for path, _, _ in operations(api.description())}
    served = {route.path for route in api.routes()}
    own = {path for path in served if path.endswith(("/api/openapi.json", "/v1", "/v1/{path:path}"))}
    assert served - own == described
    assert len(own) == 3
    served_methods = {(api.api.base + each.path, each.method) for each in api.api.operations}
    assert served_methods == {(path, method) for path, method, _ in operations(api.description())}


@BOTH
def test_every_operation_says_what_it_does_takes_gives_and_how_it_fails(api: PersonAPI | AdminAPI) -> None:
    names = []
    for path, method, operation in operations(api.description()):
        names.append(operation["operationId"])
        assert operation["summary"].endswith(".")
        named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert {"200", "401", "404", "503"} <= set(operation["responses"])
        assert ("requestBody" in operation) == (
            method in {"PUT", "POST"}
            and not path.endswith(("/share", "/exclude", "/follow", "/flag", "/minor"))
        )
    assert len(names) == len(set(names))


@pytest.mark.parametrize("api, may_refuse", [(PERSON, False), (ADMIN, True)], ids=["person", "admin"])
def test_only_the_company_can_ask_to_share_what_is_nobodys(
    api: PersonAPI | AdminAPI, *, may_refuse: bool
) -> None:
    [share] = [
        each for _, _, each in operations(api.description()) if each["operationId"] == "shareConversation"
    ]
    assert ("409" in share["responses"]) == may_refuse


@BOTH
def test_what_is_taken_is_strict(api: PersonAPI | AdminAPI) -> None:
    description = api.description()
    schemas = description["components"]["schemas"]
    for _, _, operation in operations(description):
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False


@BOTH
def test_nothing_that_is_taken_is_about_behaviour(api: PersonAPI | AdminAPI) -> None:
    members = {
        name
        for schema in api.description()["components"]["schemas"].values()
        for name in schema.get("properties", {})
    }
    assert not members & {"clicks", "seconds_on_screen", "shown_at", "duration", "ui_build"}


def test_every_operation_of_the_company_says_who_may_and_nothing_else_does() -> None:
    paths = {name for name in RIGHTS if name.startswith("/")}
    assert set(RIGHTS) - paths == {operation.name for operation in ADMIN.api.operations}
    assert all(RIGHTS.values())


def test_the_docs_have_the_table_of_rights() -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    section = page.partition("### Roles")[2].partition("### Import")[0]
    documented = {
        name: frozenset(map(Role, roles.split(", ")))
        for names, roles in re.findall(r"(?m)^\| (`.*`) \| ([a-z, ]+) \|$", section)
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert documented == RIGHTS


def test_no_operation_of_the_person_takes_a_persons_name() -> None:
    members = {
        name
        for schema in PERSON.description()["components"]["schemas"].values()
        for name in schema.get("properties", {})
    }
    assert not members & {"subject", "tenant"}
    assert not any("{subject}" in path for path in PERSON.description()["paths"])
