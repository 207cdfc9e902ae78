"""Environments of clients, each alone in a directory below .e2e/ and never the proxy's own.

Everything is pinned: Python packages by hash in requirements/e2e-*.txt, npm packages by integrity in the lock files
beside the clients. An environment is made once and again only when what it is made from changes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".e2e"
PROGRAMS = HERE / "programs"


class NotInstallableError(Exception):
    """Why an environment cannot be made here, in a line."""


def python_environment(name: str) -> Path:
    """Return the interpreter of the environment of requirements/e2e-*name*.txt. Raises NotInstallableError."""
    pinned = ROOT / "requirements" / f"e2e-{name}.txt"
    made, stamp = _made(f"python-{name}", sys.version.encode() + pinned.read_bytes())
    interpreter = made / "bin" / "python"
    if not stamp.exists():
        # The installer of the environment that runs the tests serves all; its packages stay its own.
        _run([sys.executable, "-m", "venv", "--without-pip", str(made)])
        install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter)]
        _run([*install, "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", str(pinned)])
        stamp.touch()
    return interpreter


def npm_environment(name: str) -> Path:
    """Return the directory of the packages and the client of npm/*name*. Raises NotInstallableError."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstallableError("node and npm are not installed")
    sources = sorted((HERE / "npm" / name).iterdir())
    made, stamp = _made(f"npm-{name}", b"".join(source.read_bytes() for source in sources))
    if not stamp.exists():
        for source in sources:
            shutil.copy(source, made)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=made)
        stamp.touch()
    return made


def _made(name: str, made_from: bytes) -> tuple[Path, Path]:
    """Return the directory of an environment, emptied if it is not finished, and its stamp."""
    directory = CACHE / name
    stamp = directory / f"made-from-{hashlib.sha256(made_from).hexdigest()[:16]}"
    if not stamp.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    return directory, stamp


def _run(command: list[str], *, cwd: Path | None = None) -> None:
    environment = {**os.environ, "PIP_NO_INPUT": "1", "PIP_RETRIES": "1"}
    try:
        subprocess.run(
            command, cwd=cwd, env=environment, check=True, capture_output=True, text=True, timeout=600
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "no reason given").strip().splitlines()
        why = next((line for line in said if "error" in line.lower()), said[-1])
        raise NotInstallableError(f"its packages cannot be installed: {why}") from None
    except subprocess.TimeoutExpired:
        raise NotInstallableError("installing its packages took more than ten minutes") from None
