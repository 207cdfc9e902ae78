"""``chatproxy keys renew``: another key to authenticate with, in the place of the one that is used."""

import asyncio

import click

from chatproxy.audit.log import operating_user
from chatproxy.cli.people import as_json_option
from chatproxy.cli.printing import print_json
from chatproxy.cli.vault import in_vault
from chatproxy.crypto.keyset import RenewedPurpose
from chatproxy.vault import Vault
from chatproxy.workflows.renew_keys import RenewalStep
from chatproxy.workflows.rotate import NotYetError

_LOOK_AGAIN_SECONDS = 1.0


@click.command()
@click.argument("purpose", type=click.Choice([purpose.value for purpose in RenewedPurpose]))
@click.option("--wait", is_flag=True, help="Wait until every node knows the new key.")
@as_json_option
def renew(purpose: str, *, wait: bool, as_json: bool) -> None:
    """Make another annotation or signing key, and use it once every live node knows it.

    What the one before has made stays believable. Where the command has to wait, it says for what and ends with exit code 0; run
    it again later. The pseudonym key cannot be renewed: another one would rename everybody.
    """

    async def work(vault: Vault) -> NotYetError | None:
        renewal = vault.key_renewal(by=operating_user())
        while True:
            try:
                step, version = await renewal.advance(RenewedPurpose(purpose))
            except NotYetError as waiting:
                if not wait:
                    return waiting
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                continue
            if as_json:
                print_json({"purpose": purpose, "version": version, "step": step})
            else:
                click.echo(f"{purpose} version {version}: {step}")
            if step is RenewalStep.PROMOTED:
                await vault.refresh_keyset()
                return None

    waiting = in_vault(work)
    if waiting is not None:
        if as_json:
            print_json({"waiting": str(waiting)})
        else:
            click.echo(f"Not yet: {waiting}.")
