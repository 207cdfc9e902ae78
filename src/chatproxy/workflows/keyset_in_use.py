"""The keyset while the process runs: what is derived from it is handed out at once, and works once it is known.

A keyset in a file is known before anything else happens. One that a provider has sealed is known when store and
provider have answered; until then chats go on, and whatever needs a key waits in memory, as for a store that is away.
"""

from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.keyset import Keyset
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import StoreUnavailableError


class KeysetInUse:
    """The keyset of this process, from when it is known on."""

    def __init__(self) -> None:
        self._keyset: Keyset | None = None
        self.annotation_keys = AnnotationKeys()
        self.pseudonyms = Pseudonymizer()

    def use(self, keyset: Keyset) -> None:
        """Work with *keyset* from now on."""
        self._keyset = keyset
        self.annotation_keys.use(keyset.annotation_keys())
        self.pseudonyms.use(keyset.pseudonyms.key)

    @property
    def is_known(self) -> bool:
        """Whether it is known."""
        return self._keyset is not None

    @property
    def keyset(self) -> Keyset:
        """Return the keyset. Raises StoreUnavailableError before it is known."""
        if self._keyset is None:
            raise StoreUnavailableError("the keyset is not known yet")
        return self._keyset
