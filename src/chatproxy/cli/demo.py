"""Show the whole product on one machine."""

import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

import click

from chatproxy.cli.printing import print_table
from chatproxy.cli.serve import obey_signals
from chatproxy.demo.people import CANARY
from chatproxy.demo.tour import KeptRow, demonstration, let_people_chat, link_to_pages, search_plaintext
from chatproxy.settings import Address
from chatproxy.telemetry import configure_logging
from chatproxy.web.server import run_event_loop

_FOUND_FAULTS = 3


@click.command()
@click.option("--once", is_flag=True, help="End after the demonstration instead of staying up.")
def demo(*, once: bool) -> None:
    """Run proxy, embedded store and a small demo chat backend, and show what is kept of a few conversations.

    Everything lies in a temporary directory, with a keyset of its own, and is removed at the end.
    """
    configure_logging("warning")
    with tempfile.TemporaryDirectory(prefix="chatproxy-demo-") as directory:
        found = run_event_loop(_demo(Path(directory), once=once))
    if found:
        sys.exit(_FOUND_FAULTS)


async def _demo(directory: Path, *, once: bool) -> int:
    click.echo("Starting the embedded store, a small demo chat backend (it is no model) and the proxy ...")
    public, admin = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
    if once or not await _both_free(public, admin):
        public = admin = Address("127.0.0.1", 0)
    admin_token = secrets.token_urlsafe()
    async with demonstration(
        directory, listen=public, admin_listen=admin, admin_token=admin_token
    ) as running:
        click.echo("People chat through it. What was kept, until when, for what and why:\n")
        _print_kept(await let_people_chat(running))
        search = await asyncio.to_thread(search_plaintext, directory / "data")
        _print_search(search.files, search.size, search.found, search.sample)
        _print_addresses(running.url, running.admin_url, directory)
        click.echo("\nThe people's own pages, each by a link that is as good as their password:\n")
        for name, subject, plan in (("Ana, agreed", "ana", "pro"), ("Chloé, to choose", "chloe", "max")):
            link = await link_to_pages(running, admin_token=admin_token, subject=subject, plan=plan)
            click.echo(f"{name}:  {link}")
        if not once:
            click.echo("\nIt stays up; Ctrl-C stops it and removes what it kept.")
            await obey_signals(running).wait()
    return search.found


async def _both_free(*addresses: Address) -> bool:
    for address in addresses:
        try:
            server = await asyncio.start_server(lambda *_: None, address.host, address.port)
        except OSError:
            click.echo(f"{address} is in use, so free ports are taken.")
            return False
        server.close()
    return True


def _print_kept(kept: list[KeptRow]) -> None:
    rows = []
    for turn in kept:
        row = turn.row
        if row is None:
            rows.append((turn.who, "nothing", "-", "-", turn.reason))
        else:
            grounds = ", ".join(row["grounds"])
            training = "yes" if row["eligible"]["capability"] else "no"
            rows.append((turn.who, f"until {row['expires_at'][:10]}", grounds, training, turn.reason))
    print_table(("who", "kept", "on the ground of", "may train", "why"), rows)


def _print_search(files: int, size: int, found: int, sample: bytes) -> None:
    click.echo(
        f'\nEverybody said "{CANARY}". In the {files} files ({size // 1024} KiB) of the data directory it'
    )
    click.echo(f"stands {found} times: what lies there is ciphertext. A kept turn begins like this:")
    click.echo(f"  {sample.hex(' ')} ...")


def _print_addresses(url: str, admin_url: str, directory: Path) -> None:
    click.echo(f"\nChat:    {url}      (set it as the base URL of any OpenAI or Anthropic client)")
    click.echo(f"Health:  {admin_url}/readyz    Metrics: {admin_url}/metrics")
    click.echo("\nTry it:\n")
    chat = '{"model": "demo", "messages": [{"role": "user", "content": "Hello there"}]}'
    click.echo(f"curl -i {url}/v1/chat/completions -H 'X-Chat-Subject: me' -H 'X-Chat-Plan: pro' -d '{chat}'")
    stream = '{"model": "demo", "max_tokens": 99, "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    click.echo(f"curl -iN {url}/v1/messages -H 'X-Chat-Subject: me' -H 'X-Chat-Plan: pro' -d '{stream}'")
    click.echo("\nand then see what is kept of it:\n")
    here = f"CHATPROXY_DATA_DIR={directory}/data CHATPROXY_KEYSET=file:{directory}/keys/keyset"
    command = sys.argv[0] if Path(sys.argv[0]).name == "chatproxy" else f"{sys.executable} -m chatproxy"
    click.echo(f"{here} {command} transcripts list")
