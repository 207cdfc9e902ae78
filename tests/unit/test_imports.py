"""What must not stand on the way of a chat is not imported (P4, P5)."""

import ast
from pathlib import Path

import pytest

import chatproxy

SOURCE = Path(chatproxy.__file__).parent


def imported(module: Path) -> set[str]:
    """Return the full name of everything that *module* imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("BackgroundTask", id="which does not run where a stream is cut"),
        pytest.param("BaseHTTPMiddleware", id="which holds streams back and hides that a client left"),
        pytest.param("StreamingResponse", id="which may never ask for its first piece"),
    ],
)
def test_nothing_imports(name: str) -> None:
    found = {
        str(module.relative_to(SOURCE))
        for module in SOURCE.rglob("*.py")
        if any(name in each.split(".") or f"{name}s" in each.split(".") for each in imported(module))
    }

    assert found == set()
