"""The record of who did what."""

from collections.abc import Mapping
from typing import Protocol


class AuditLog(Protocol):
    """Append-only record of who read what for which purpose. No content and no personal data."""

    def append(self, action: str, details: Mapping[str, str | int | bool], *, by: str | None = None) -> None:
        """Write one entry durably; ``by``: who did it, if not who the log takes for that by itself.

        Raises AuditUnavailableError, and then the action must not happen.
        """
