"""Run the command line as ``python -m chatproxy``."""

from chatproxy.cli import main

if __name__ == "__main__":
    main()
