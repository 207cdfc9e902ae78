"""The audit log of a node whose keyset, which signs it, may not be known yet."""

from collections.abc import Callable, Mapping

from chatproxy.ports import AuditLog


class LateAudit:
    """Opens the log when there is something to write."""

    def __init__(self, open_log: Callable[[], AuditLog]) -> None:
        """``open_log`` raises StoreUnavailableError as long as the keyset is not known."""
        self._open_log = open_log
        self._log: AuditLog | None = None

    def append(self, action: str, details: Mapping[str, str | int | bool], *, by: str | None = None) -> None:
        """Write one entry durably; ``by``: who did it, if not who runs this process. Raises AuditUnavailableError, StoreUnavailableError; then nothing may happen."""
        if self._log is None:
            self._log = self._open_log()
        self._log.append(action, details, by=by)


_: type[AuditLog] = LateAudit
