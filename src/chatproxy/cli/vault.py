"""How commands reach what is stored: beside a running proxy or alone, and closed again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chatproxy.crypto.keyset import Keyset
from chatproxy.errors import AuditUnavailableError, StoreUnavailableError
from chatproxy.settings import load_settings
from chatproxy.telemetry import configure_logging
from chatproxy.vault import Vault, open_keyset, open_vault
from chatproxy.workflows.publish_checkpoint import publish_checkpoint

T = TypeVar("T")


def in_vault(work: Callable[[Vault], Awaitable[T]]) -> T:
    """Open the store and the keyset of the settings, do *work*, close them.

    Raises ConfigurationError, StoreUnavailableError, and what *work* raises.
    """

    async def run() -> T:
        async with open_vault(settings) as vault:
            result = await work(vault)
            with contextlib.suppress(
                StoreUnavailableError, AuditUnavailableError
            ):  # the running proxy does too
                await publish_checkpoint(vault.store, vault.audit, node=settings.node, keys=vault.audit_keys)
            return result

    settings = load_settings().settings
    configure_logging("error")
    return asyncio.run(run())


def read_keyset() -> Keyset:
    """Return the keyset of the settings: without the store, unless it lies there.

    Raises ConfigurationError, StoreUnavailableError.
    """
    return open_keyset(load_settings().settings).local() or in_vault(_keyset)


async def _keyset(vault: Vault) -> Keyset:
    return vault.keyset
