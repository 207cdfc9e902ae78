"""What is read of others, and must show in no `repr`, and so in no traceback: only its kind does."""

import msgspec


class Unshown(msgspec.Struct, frozen=True):
    """A struct whose ``repr`` has none of its members."""

    def __repr__(self) -> str:
        """Return the name of the class alone."""
        return f"<{type(self).__name__}>"
