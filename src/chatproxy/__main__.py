"""Run the command line, as the program ``chatproxy`` or as ``python -m chatproxy``."""

from chatproxy.cli import main
from chatproxy.memory import refuse_dumps


def run() -> None:
    """Run a command in a process whose crash leaves nothing of what it had in memory."""
    refuse_dumps()
    main()


if __name__ == "__main__":
    run()
