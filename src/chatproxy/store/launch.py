"""How does a child become the server? Run as ``python launch.py PARENT BINARY ARGUMENT...``.

Runs between fork and server instead of a function in the forked child, which is not safe where threads run. It
lets no file be read by others (umask), lets the server end with its parent (Linux), takes no environment along,
where secrets may be, and becomes the server under the same process id.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Prepare this process and become the server."""
    parent, binary, *arguments = sys.argv[1:]
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it ended before it could be asked for
            sys.exit(1)
    os.execve(binary, [binary, *arguments], {})  # noqa: S606


if __name__ == "__main__":
    main()
