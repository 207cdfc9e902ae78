"""What waits between the end of an exchange and the store's confirmation."""

from typing import Protocol

from chatproxy.model import Exchange


class Journal(Protocol):
    """What stands between capture and store, so that a store that is away costs nothing at once.

    An exchange is opened at acceptance, grows while it streams, is closed when it ended, and is released only
    when the store has confirmed its turn.
    """

    @property
    def held_bytes(self) -> int:
        """Bytes in memory now."""

    @property
    def is_full(self) -> bool:
        """Whether no more than a twentieth of the memory is free."""

    @property
    def is_filling(self) -> bool:
        """Whether copies come faster than they are kept: a quarter of the memory is taken."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits or is being kept."""

    @property
    def problem(self) -> str | None:
        """Why what is captured now does not survive a crash though it should, in words; None: it does."""

    def open(self, exchange: Exchange) -> bool:
        """Begin to keep *exchange*; False if there is no room, and then it is lost and counted."""

    def grow(self, exchange: Exchange, size: int, *, pieces: int) -> bool:
        """Account for *size* more bytes in *pieces*, which are then appended; False if there is no room for them."""

    def abandon(self, exchange: Exchange) -> None:
        """Forget a running exchange."""

    def close(self, exchange: Exchange) -> None:
        """The exchange has ended: it may be kept now."""

    async def is_safe(self, exchange: Exchange) -> bool:
        """Wait until an exchange that has ended survives a crash; False if it does not, or that takes too long."""

    async def take(self, most: int) -> list[Exchange]:
        """Wait for ended exchanges and return up to *most* of them, oldest first."""

    def release(self, exchange: Exchange, *, is_kept: bool = False) -> None:
        """The exchange has met its fate; forget it. ``is_kept``: the store has it, as far as that can be known."""

    async def set_aside(self, exchange: Exchange) -> bool:
        """Release what cannot be kept, for the next start to try again; False: it is lost."""

    def follow_root(self, primary: int) -> int | None:
        """Have what is sealed on disk need no root version older than *primary*, as soon as that can be.

        Return the oldest that it needs now; None: nothing is sealed, 0: that is not known yet.
        """

    @property
    def leaves_nothing(self) -> bool:
        """Whether nothing lies on disk that the next start must be able to open."""
