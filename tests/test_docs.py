"""The docs say what the code does: names, defaults, links and the example of a settings file."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from chatproxy.cli import cli
from chatproxy.identity import IDENTITY_HEADERS
from chatproxy.model import StreamEnd
from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason
from chatproxy.settings import PREFIX, Settings, load_settings
from chatproxy.telemetry import Metrics, TurnOutcome
from chatproxy.workflows import export_gate
from chatproxy.workflows.announce import DECISION_HEADERS
from chatproxy.workflows.recall import UNTRACKED
from chatproxy.workflows.retention_report import CLASSES
from integration.desync import hostile_answers, hostile_requests

TOP = Path(__file__).parent.parent
SOURCE = TOP / "src" / "chatproxy"
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
EXAMPLE = TOP / "config" / "chatproxy.toml"
FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def page(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of each table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def first_names(text: str) -> set[str]:
    """Return what stands in code in the first cells of the tables."""
    return {name for cells in rows(text) for name in re.findall(r"`([^`]+)`", cells[0])}


def prose(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


# --- settings ---


def test_the_settings_page_has_every_setting_with_its_default() -> None:
    documented = {}
    for cells in rows(page("docs/settings.md")):
        if match := re.fullmatch(r"`CHATPROXY_(\w+)`<br>`(\w+)`", cells[0]):
            assert match[1].lower() == match[2]
            documented[match[2]] = cells[1]

    assert documented == {
        name: {None: "none", "": "empty"}.get(field.metadata["default"], f"`{field.metadata['default']}`")
        for name, field in FIELDS.items()
    }


def test_the_readme_has_the_defaults_of_the_settings_that_it_lists() -> None:
    listed = {
        match[1].lower(): cells[1].strip("`")
        for cells in rows(page("README.md"))
        if (match := re.fullmatch(r"`CHATPROXY_(\w+)`", cells[0]))
    }

    assert listed
    assert listed == {
        name: {None: "none", "": "empty"}.get(
            FIELDS[name].metadata["default"], FIELDS[name].metadata["default"]
        )
        for name in listed
    }


def test_the_example_of_a_settings_file_has_every_setting_and_changes_nothing() -> None:
    loaded = load_settings({"CHATPROXY_CONFIG": str(EXAMPLE)})
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    names = [match[1] for line in lines if (match := re.match(r"##? (\w+) = ", line))]

    assert set(loaded.sources.values()) == {"built-in"}
    assert len(names) == len(set(names))
    assert set(names) == set(FIELDS)


def test_the_example_of_a_settings_file_uncommented_is_the_defaults(tmp_path: Path) -> None:
    uncommented = re.sub(r"(?m)^# (?=\w+ = )", "", EXAMPLE.read_text(encoding="utf-8"))
    path = tmp_path / "chatproxy.toml"
    path.write_text(uncommented, encoding="utf-8")

    loaded = load_settings({"CHATPROXY_CONFIG": str(path)})

    assert loaded.settings == Settings()
    assert {name for name, source in loaded.sources.items() if source == str(path)} == {
        name for name, field in FIELDS.items() if field.metadata["default"] is not None
    }


def test_the_examples_of_settings_without_default_are_accepted() -> None:
    shown = re.findall(r"(?m)^## (\w+ = .*)$", EXAMPLE.read_text(encoding="utf-8"))

    settings = load_settings({}, overrides=tomllib.loads("\n".join(shown))).settings

    assert {line.split()[0] for line in shown} == {
        name for name, field in FIELDS.items() if field.metadata["default"] is None
    }
    assert all(getattr(settings, line.split()[0]) is not None for line in shown)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_variable_that_is_named_exists(path: Path) -> None:
    known = {PREFIX + name.upper() for name in FIELDS}
    known |= {PREFIX + field.name.upper() + "_FILE" for field in FIELDS.values() if field.metadata["secret"]}
    known |= {"CHATPROXY_CONFIG", "CHATPROXY_SERVICE_HOST", "CHATPROXY_PORT"}

    named = set(re.findall(r"\bCHATPROXY_[A-Z_]+[A-Z]\b(?![_…])", prose(path.read_text(encoding="utf-8"))))

    assert named <= known


# --- commands ---


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield every command that does something, by the words after ``chatproxy``."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def test_every_command_is_in_the_table_of_commands_and_no_other() -> None:
    documented = set()
    for cells in rows(page("docs/operations.md")):
        if match := re.match(r"`chatproxy ([a-z]+)(?: ([a-z-]+(?:\\\|[a-z-]+)*))?", cells[0]):
            documented |= {f"{match[1]} {verb}".strip() for verb in (match[2] or "").split("\\|")}

    assert documented == set(commands(cli))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_command_that_is_named_exists(path: Path) -> None:
    known = {words for command in commands(cli) for words in (command, command.split()[0])}

    named = re.findall(r"`chatproxy ([a-z]+(?: [a-z-]+)?)", path.read_text(encoding="utf-8"))

    assert {name for name in named if name not in known and name.split()[0] not in known} == set()


def test_the_two_commands_of_the_readme_are_targets() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", page("Makefile")))

    assert {"run", "test"} <= set(re.findall(r"make (\w+)", page("README.md"))) <= targets


# --- what can be seen of turns ---


def test_every_outcome_is_explained() -> None:
    assert set(TurnOutcome) <= first_names(page("docs/operations.md"))


def test_every_reason_for_leaving_a_turn_out_of_a_dataset_is_explained() -> None:
    reasons = {
        value for name, value in vars(export_gate).items() if name.isupper() and isinstance(value, str)
    }

    assert reasons | {UNTRACKED} <= set(re.findall(r"`(\w+)`", page("docs/datasets.md")))
    assert reasons >= export_gate.FAULTS


def test_every_metric_is_explained_and_no_other() -> None:
    documented = {name for name in first_names(page("docs/operations.md")) if name.startswith("chatproxy_")}

    assert documented == {metric.name for metric in Metrics().registry.collect()}


def test_every_reason_is_explained() -> None:
    assert set(Reason) <= {name.rstrip("*") for name in first_names(page("docs/privacy.md"))}


def test_every_ground_is_explained() -> None:
    assert set(Ground) <= first_names(page("docs/privacy.md"))


def test_every_end_of_an_exchange_but_the_ordinary_ones_is_mentioned() -> None:
    text = page("docs/operations.md") + page("docs/architecture.md")

    assert {end for end in StreamEnd if f"`{end}`" not in text} <= {StreamEnd.COMPLETE}


@pytest.mark.parametrize("headers", [IDENTITY_HEADERS, DECISION_HEADERS], ids=["identity", "decision"])
def test_every_header_is_in_the_readme(headers: frozenset[bytes]) -> None:
    mentioned = {name.lower() for name in re.findall(r"`(X-[A-Za-z-]+)", page("README.md"))}

    assert {header.decode() for header in headers} <= mentioned


# --- references ---


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as repository sites make them."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text(encoding="utf-8")))

    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_module_that_is_named_exists(path: Path) -> None:
    modules = [
        file for top in ("src", "tests", "benchmarks", "examples") for file in TOP.glob(f"{top}/**/*.py")
    ]
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", path.read_text(encoding="utf-8"))

    assert {name for name in named if not any(module.match(name) for module in modules)} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_test_that_is_named_exists(path: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", path.read_text(encoding="utf-8"))

    for file, name in named:
        assert re.search(rf"^\s*(async )?def {name}\(", page(file), re.MULTILINE), (file, name)


def test_each_thing_that_broke_for_others_has_its_test() -> None:
    tried = {
        number
        for cells in rows(page("docs/reliability.md"))
        if "`tests/" in cells[-1]
        for number in re.findall(r"P\d+", cells[0])
    }

    numbers = [*range(1, 18), 23, 24, *range(26, 34), 36, *range(38, 41)]
    assert tried == {f"P{number}" for number in numbers}


def test_each_row_of_the_catalogue_of_bad_input_has_its_test() -> None:
    text = page("docs/bad-input.md")
    tried = set[int]()
    for cells in rows(text):
        if "`tests/" in cells[-1]:
            for first, last in re.findall(r"(\d+)(?: to (\d+))?", cells[0]):
                tried.update(range(int(first), int(last or first) + 1))

    assert tried == set(range(1, 131)) - {121}
    assert "- 121, " in text


def test_each_case_that_is_named_is_in_a_corpus() -> None:
    named = set(re.findall("“([^”]+)”", page("docs/bad-input.md")))
    cases = {case.name for case in hostile_requests()} | {case.name for case in hostile_answers()}

    assert named <= cases


def test_each_fault_of_the_matrix_has_its_test_or_says_why_not() -> None:
    tried: list[int] = []
    untried: list[int] = []
    for cells in rows(page("docs/reliability.md")):
        found = re.findall(r"F-(\d+)", cells[0])
        (tried if "`tests/" in cells[-1] else untried).extend(map(int, found))

    assert sorted(tried + untried) == list(range(1, 74))
    assert f"{len(tried)} rows have tests; {len(untried)} have none" in page("docs/reliability.md")


def test_a_name_that_the_architecture_points_to_is_where_it_says() -> None:
    text = " ".join(prose(page("docs/architecture.md")).split())
    pointers = re.findall(r"`((?:\w+/)*\w+\.py)`: `(\w+)(?:\.(\w+))?`", text)

    assert len(pointers) > 20
    for module, *names in pointers:
        source = (SOURCE / module).read_text(encoding="utf-8")
        for name in filter(None, names):
            assert re.search(rf"(def|class) {name}\b|^{name}\b.* = ", source, re.MULTILINE), (module, name)


def test_the_table_of_layers_is_the_one_that_is_checked() -> None:
    _, _, section = page("docs/architecture.md").partition("## Layers")
    told = [set(re.findall(r"`(\w+)`", cells[0])) for cells in rows(section.partition("\n## ")[0])]
    contract, _ = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]

    assert [names for names in told if names] == [set(layer.split(" | ")) for layer in contract["layers"]]


def test_the_page_about_access_has_every_member_of_every_line() -> None:
    schema = json.loads((SOURCE / "web" / "access.schema.json").read_text(encoding="utf-8"))
    members = {line["properties"]["kind"]["const"]: line["properties"].keys() for line in schema["oneOf"]}
    documented = {
        cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[2]))
        for cells in rows(page("docs/access.md"))
        if len(cells) == 3 and cells[0].strip("`") in members
    }

    assert set(documented) == set(members)
    for kind, names in members.items():
        assert set(names) - {"kind"} <= documented[kind], kind


def test_the_page_about_access_has_every_class_of_the_report() -> None:
    assert set(CLASSES) <= first_names(page("docs/access.md"))
