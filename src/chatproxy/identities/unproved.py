"""A credential that does not count, on its way to being counted."""

from chatproxy.errors import ChatproxyError
from chatproxy.identity import Rejected


class UnprovedError(ChatproxyError):
    """A credential that proves nothing. Never reaches a client: the chat passes, as nobody's (rule 2)."""

    def __init__(self, reason: Rejected) -> None:
        super().__init__(f"the credential does not count: {reason}")
        self.reason = reason
