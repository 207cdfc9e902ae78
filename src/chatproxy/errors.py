"""What can go wrong, grouped by whose problem it is. No message holds content, keys or personal data.

The command line prints ``str(error)`` as it is, so each message says what is wrong, where, and what to do.
"""


class ChatproxyError(Exception):
    """Base of every error that chatproxy raises on purpose."""


class ConfigurationError(ChatproxyError):
    """A setting, file or argument must be changed by the operator. May list several problems, one a line."""


class KeysetError(ConfigurationError):
    """The keyset is missing, unreadable, malformed, too open, or is not the one the store was made with."""


class RootRefusedError(KeysetError):
    """The provider that keeps the root does not do what it is asked, or is not one."""


class StoreRefusedError(ConfigurationError):
    """The store could lose or leak data as it is configured; the message carries the fix."""


class StoreUnavailableError(ChatproxyError):
    """The store did not answer in time, or answered that it cannot serve. What was asked may have been done."""


class ConsentSourceError(ChatproxyError):
    """The company's consent service gave no answer that can be believed. ``reason`` is a code of a closed set."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the consent service gave no answer that can be believed: {reason}")
        self.reason = reason


class RootUnavailableError(StoreUnavailableError):
    """The provider that keeps the root did not answer in time, or is sealed. What was asked may have been done."""


class RingBehindError(StoreUnavailableError):
    """This node's key ring is older than what it met, or too old to wrap with. That passes once it is read again."""


class UndecryptableError(ChatproxyError):
    """A sealed record or wrapped key cannot be opened. ``reason`` is a code for operators, never for clients."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot be opened: {reason}")
        self.reason = reason


class UnreadableError(ChatproxyError):
    """A request or reply body is not what its dialect says. Kept raw; the chat is not affected."""


class AmbiguousIdentityError(ChatproxyError):
    """A trusted peer sent identity that two readers could understand differently. Answered with 400."""


class AccessRefusedError(ChatproxyError):
    """There is no live ground for the purpose named, so the transcript is not read."""


class NotFoundError(ChatproxyError):
    """Nothing of that name is held. Unknown and foreign names look alike."""


class ConfirmationNeededError(ChatproxyError):
    """What was asked for has a consequence that the person must have been told of; ask again, saying that they were."""


class ConflictError(ChatproxyError):
    """What is asked does not fit what stands; the message says what would."""


class AuditUnavailableError(ChatproxyError):
    """The audit log cannot be written, so what must be audited is not done."""
