"""Callers who are known by a token or an API key, through the whole proxy."""

from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.identities.api_keys import hash_api_key
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import a_world, chatting
from simulators.backend import answering, backend, ok
from unit.identities.tokens import AUDIENCE, ISSUER, claims, ed_key, jwk, jwks, token


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def bearer(**changes: object) -> dict[str, str]:
    seconds = wall_clock() // 1000
    good = claims(iat=seconds - 10, exp=seconds + 300, **changes)
    return {"authorization": "Bearer " + token(good).decode()}


async def test_the_person_of_a_verified_token_is_kept_by_their_own_choice(tmp_path: Path, store: str) -> None:
    async with backend(answering(ok(jwks(jwk(ed_key()))))) as issuer:
        trust: dict[str, Any] = {
            "identity": "jwt",
            "trusted_proxies": "",
            "jwt_jwks_url": f"{issuer.url}/keys",
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "jwt_algorithms": "EdDSA",
            "jwt_claim_plan": "plan",
        }
        async with a_world(chatting(), tmp_path, store, **trust) as world:
            await world.choose(Choice.GIVEN, subject="alice")

            await world.chat("verified", who=bearer(plan="Pro"))
            await world.chat("of another audience", who=bearer(plan="Pro", aud="other"))
            await world.chat("by header", who={"x-chat-subject": "alice", "x-chat-plan": "pro"})

            rows = await world.kept()
            assert [row["reason"] for row in rows] == ["ELIGIBLE_CONSENT", "PLAN_UNKNOWN", "PLAN_UNKNOWN"]
            assert rows[0]["subject"] == world.tag("alice").hex()
            assert world.counted("chatproxy_identity_rejected_total", reason="token_foreign") == 1
            assert world.counted("chatproxy_identity_rejected_total", reason="untrusted_peer") == 1
            assert all(b"bearer ey" in bytes(each.received).lower() for each in world.backend.connections[:1])


async def test_an_api_key_names_its_tenant_and_plan(tmp_path: Path, store: str) -> None:
    keys = tmp_path / "api-keys"
    keys.write_text(f'{{"key": "{hash_api_key("k" * 40)}", "tenant": "acme", "plan": "team"}}\n')
    keys.chmod(0o600)
    settings: dict[str, Any] = {"identity": "api_keys", "trusted_proxies": "", "api_keys_file": str(keys)}
    async with a_world(chatting(), tmp_path, store, **settings) as world:
        await world.chat("exempt", who={"authorization": "Bearer " + "k" * 40})
        await world.chat("unknown", who={"x-api-key": "j" * 40})

        rows = await world.kept()
        assert [row["reason"] for row in rows] == ["PLAN_UNKNOWN"]
        assert world.outcomes() == {"not_stored": 1, "stored": 1}
        assert world.counted("chatproxy_identity_rejected_total", reason="unknown_api_key") == 1
