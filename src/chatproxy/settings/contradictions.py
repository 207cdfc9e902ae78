"""Which settings do not go together, and what to do about it."""

from chatproxy.kms.transit_address import SCHEME as TRANSIT
from chatproxy.settings.table import PREFIX, Settings

_LARGEST_MEDIA = 30 << 20
_LARGEST_CAPTURE = 45 << 20
"""What is not understood is kept as base64, and a payload is never read beyond 64 MiB."""


def contradictions(settings: Settings) -> list[str]:
    """Return what is wrong, a line a problem."""
    problems = []
    if settings.capture_limit > _LARGEST_CAPTURE:
        problems.append(
            "CHATPROXY_CAPTURE_LIMIT must not be over 45MiB: what is larger could not be read again"
        )
    if settings.media_limit > _LARGEST_MEDIA:
        problems.append(
            "CHATPROXY_MEDIA_LIMIT must not be over 30MiB: what is larger could not be read again"
        )
    if both := set(settings.plans_consumer) & set(settings.plans_exempt):
        problems.append(
            f"CHATPROXY_PLANS_CONSUMER and CHATPROXY_PLANS_EXEMPT both name: {', '.join(sorted(both))}; "
            "a plan is one or the other"
        )
    if settings.retention_training.length < settings.retention_service.length:
        problems.append("CHATPROXY_RETENTION_TRAINING must not be shorter than CHATPROXY_RETENTION_SERVICE")
    if settings.choice_missing == "gate" and settings.choice_deadline is None:
        problems.append(
            "CHATPROXY_CHOICE_MISSING = gate needs CHATPROXY_CHOICE_DEADLINE: before it, nobody has to choose"
        )
    if settings.consent_source != "builtin" and settings.consent_service_secret is None:
        problems.append(
            "CHATPROXY_CONSENT_SOURCE = a URL needs CHATPROXY_CONSENT_SERVICE_SECRET: without it anybody who answers "
            "there could say yes for everybody"
        )
    problems += _identity_contradictions(settings)
    problems += _key_contradictions(settings)
    problems += _admin_contradictions(settings)
    if settings.listen == settings.admin_listen and settings.listen.port:
        problems.append("CHATPROXY_LISTEN and CHATPROXY_ADMIN_LISTEN must be two different addresses")
    return problems


def _admin_contradictions(settings: Settings) -> list[str]:
    """What others can reach must know who asks."""
    problems = []
    if not settings.admin_listen.is_loopback and not settings.admin_token and not settings.admin_clients:
        problems.append(
            f"CHATPROXY_ADMIN_LISTEN = {settings.admin_listen} can be reached from other machines, so it must know who "
            "asks: set CHATPROXY_ADMIN_TOKEN_FILE or CHATPROXY_ADMIN_CLIENTS, or listen on 127.0.0.1"
        )
    if (settings.admin_tls_certificate is None) != (settings.admin_tls_key is None):
        problems.append(
            "CHATPROXY_ADMIN_TLS_CERTIFICATE and CHATPROXY_ADMIN_TLS_KEY go together; set both or none"
        )
    if (settings.admin_clients is not None) != (settings.admin_client_ca is not None):
        problems.append("CHATPROXY_ADMIN_CLIENTS and CHATPROXY_ADMIN_CLIENT_CA go together; set both or none")
    if settings.admin_clients and settings.admin_tls_certificate is None:
        problems.append(
            "CHATPROXY_ADMIN_CLIENTS needs CHATPROXY_ADMIN_TLS_CERTIFICATE: certificates come by TLS"
        )
    roles = {each.operator.name: each.operator for each in settings.admin_clients or ()}
    problems += [
        f"CHATPROXY_ADMIN_TOKEN and CHATPROXY_ADMIN_CLIENTS give {token.operator.name} different roles: the audit log "
        "has the name, so give it the same ones"
        for token in settings.admin_token or ()
        if roles.get(token.operator.name, token.operator) != token.operator
    ]
    return problems


def _key_contradictions(settings: Settings) -> list[str]:
    """A rotation takes soak and grace; what its keys could read is out of reach only after that (security B3)."""
    if settings.keyset.startswith(TRANSIT) and settings.keyset_token is None:
        return [
            "CHATPROXY_KEYSET names a vault, which needs CHATPROXY_KEYSET_TOKEN_FILE or CHATPROXY_KEYSET_TOKEN"
        ]
    horizon = settings.erasure_horizon.length / 1000
    waiting = settings.key_soak + settings.key_grace
    problems = []
    if waiting >= horizon:
        problems.append(
            "CHATPROXY_KEY_SOAK and CHATPROXY_KEY_GRACE together must be shorter than CHATPROXY_ERASURE_HORIZON, "
            "which cannot hold otherwise"
        )
    elif settings.key_rotation and settings.key_rotation + waiting > horizon:
        problems.append(
            "CHATPROXY_KEY_ROTATION, CHATPROXY_KEY_SOAK and CHATPROXY_KEY_GRACE together must not be longer than "
            "CHATPROXY_ERASURE_HORIZON, which cannot hold otherwise"
        )
    return problems


def _identity_contradictions(settings: Settings) -> list[str]:
    needed = {
        "headers": (),
        "jwt": ("jwt_jwks_url", "jwt_issuer", "jwt_audience"),
        "api_keys": ("api_keys_file",),
    }[settings.identity]
    problems = [
        f"CHATPROXY_IDENTITY = {settings.identity} needs {PREFIX}{name.upper()}"
        for name in needed
        if not getattr(settings, name)
    ]
    if settings.identity != "headers" and (settings.trusted_proxies or settings.identity_secret):
        problems.append(
            f"CHATPROXY_IDENTITY = {settings.identity} believes no headers, so CHATPROXY_TRUSTED_PROXIES and "
            "CHATPROXY_IDENTITY_SECRET would not count; unset them"
        )
    if settings.jwt_jwks_refresh < _SOONEST_REFRESH_SECONDS:
        problems.append("CHATPROXY_JWT_JWKS_REFRESH must not be under 10s")
    if settings.jwt_jwks_max_age < settings.jwt_jwks_refresh:
        problems.append("CHATPROXY_JWT_JWKS_MAX_AGE must not be shorter than CHATPROXY_JWT_JWKS_REFRESH")
    if settings.jwt_leeway > _LONGEST_LEEWAY_SECONDS:
        problems.append("CHATPROXY_JWT_LEEWAY must not be over 10m")
    problems += [
        f"{PREFIX}{name.upper()} must not be over 24h"
        for name in ("link_lifetime", "session_lifetime")
        if getattr(settings, name) > _LONGEST_SESSION_SECONDS
    ]
    return problems


_SOONEST_REFRESH_SECONDS = 10
_LONGEST_LEEWAY_SECONDS = 600
_LONGEST_SESSION_SECONDS = 86_400
