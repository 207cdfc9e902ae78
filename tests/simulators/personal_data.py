"""Sentences with personal data and secrets in them, and others that only look so, each labelled: made, never real."""

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatproxy.datasets.checksums import luhn

_FIRST = ["jean", "marie", "zoé", "amélie", "john", "sarah", "li", "omar", "chloe", "ben.j"]
_LAST = ["dupont", "martin", "lefèvre", "smith", "o'neil", "nguyen", "garcia", "van-dyk", "brown", "petit"]
_HOSTS = ["exemple.fr", "example.com", "mail.exemple.org", "societe-generale.example", "uni.example.ac.uk"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, and where in its UTF-8 lies what of which kind."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def _with_luhn(rng: random.Random, head: str, length: int) -> str:
    body = head + _digits(rng, length - len(head) - 1)
    return next(body + str(last) for last in range(10) if luhn(body + str(last)))


def _grouped(digits: str, sizes: Sequence[int], sep: str) -> str:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(digits[at : at + size])
        at += size
    return sep.join(pieces)


def _email(rng: random.Random) -> str:
    name = f"{rng.choice(_FIRST)}{rng.choice(['.', '_', '-', ''])}{rng.choice(_LAST)}{rng.choice(['', '+spam', '42'])}"
    host = rng.choice(_HOSTS)
    return rng.choice([f"{name}@{host}", f"{name}@{host}".upper(), f"{name} [at] {host}", f"{name}%40{host}"])


def _phone(rng: random.Random) -> str:
    sep = rng.choice([" ", ".", "-", "", "\u00a0", "\u202f"])
    fr = f"0{rng.choice('123456789')}{_digits(rng, 8)}"
    national = _grouped(fr, [2] * 5, sep)
    abroad = fr[1] + sep + _grouped(fr[2:], [2] * 4, sep)
    us = (rng.choice("23456789") + _digits(rng, 2), rng.choice("23456789") + _digits(rng, 2), _digits(rng, 4))
    return rng.choice(
        [
            national,
            f"+33{sep}{abroad}",
            f"+33 (0){abroad}",
            f"0033{sep}{abroad}",
            f"({us[0]}) {us[1]}-{us[2]}",
            f"{us[0]}-{us[1]}-{us[2]}",
            f"+1 {us[0]} {us[1]} {us[2]}",
            f"020 7{_digits(rng, 3)} {_digits(rng, 4)}",
            f"07{_digits(rng, 3)} {_digits(rng, 6)}",
            f"+44 20 7{_digits(rng, 3)} {_digits(rng, 4)}",
            f"+49 30 {_digits(rng, 7)}",
        ]
    )


def _iban(rng: random.Random) -> str:
    country, length = rng.choice([("FR", 27), ("DE", 22), ("GB", 22), ("BE", 16), ("ES", 24)])
    letters = country == "GB"
    body = ("NWBK" if letters else "") + _digits(rng, length - 4 - (4 if letters else 0))
    number = int("".join(str(int(char, 36)) for char in body + country + "00"))
    iban = f"{country}{98 - number % 97:02d}{body}"
    return rng.choice([iban, _grouped(iban, [4] * 9, " ").strip(), iban.lower()])


def _card(rng: random.Random) -> str:
    head, length, sizes = rng.choice([("4", 16, [4] * 4), ("5", 16, [4] * 4), ("37", 15, [4, 6, 5])])
    return _grouped(_with_luhn(rng, head, length), sizes, rng.choice(["", " ", "-"])).rstrip(" -")


def _nir(rng: random.Random) -> str:
    department = rng.choice(["75", "13", "69", "2A", "2B", "33"])
    body = f"{rng.choice('12')}{_digits(rng, 2)}{rng.randint(1, 12):02d}{department}{_digits(rng, 6)}"
    number = int(body.replace("2A", "19").replace("2B", "18"))
    full = f"{body}{97 - number % 97:02d}"
    return rng.choice([full, _grouped(full, [1, 2, 2, 2, 3, 3, 2], " ")])


def _siret(rng: random.Random) -> str:
    siret = _with_luhn(rng, rng.choice("789"), 14)
    return rng.choice([siret, _grouped(siret, [3, 3, 3, 5], " ")])


def _siren(rng: random.Random) -> str:
    return _grouped(_with_luhn(rng, rng.choice("789"), 9), [3, 3, 3], rng.choice([" ", ""]))


def _ip(rng: random.Random) -> str:
    v6 = ":".join(f"{rng.randint(4096, 65535):x}" for _ in range(7))
    return rng.choice(
        [
            ".".join(str(rng.randint(1, 126)) for _ in range(4)),
            f"2001:{v6}",
            f"2001:db8::{rng.randint(17, 255):x}:370:7334",
        ]
    )


def _key(rng: random.Random) -> str:
    def more(count: int) -> str:
        return "".join(rng.choice(string.ascii_letters + string.digits) for _ in range(count))

    return rng.choice(
        [
            f"sk-proj-{more(40)}",
            "AKIA" + "".join(rng.choice(string.ascii_uppercase + string.digits) for _ in range(16)),
            f"ghp_{more(36)}",
            f"xoxb-{_digits(rng, 12)}-{more(24)}",
            f"AIza{more(35)}",
            f"hf_{more(34)}",
            f"glpat-{more(20)}",
            f"sk_live_{more(24)}",
        ]
    )


def _password(rng: random.Random) -> str:
    return rng.choice(["Soleil", "hunter", "Tr0ub4dor", "chat-noir", "P@ss"]) + rng.choice(
        ["2024!", "#77x", "9_Q", "$42"]
    )


def _jwt(rng: random.Random) -> str:
    def more(count: int) -> str:
        return "".join(rng.choice(string.ascii_letters + string.digits + "-_") for _ in range(count))

    return f"eyJ{more(20)}.eyJ{more(60)}.{more(43)}"


def _private_key(rng: random.Random) -> str:
    lines = "\n".join("".join(rng.choice(string.ascii_letters) for _ in range(64)) for _ in range(4))
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", ""])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def _ssn(rng: random.Random) -> str:
    return f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"


def _nino(rng: random.Random) -> str:
    return _grouped(f"AB{_digits(rng, 6)}C", [2, 2, 2, 2, 1], rng.choice([" ", ""]))


_KINDS: dict[str, tuple[Callable[[random.Random], str], Sequence[str]]] = {
    "EMAIL": (_email, ["Écrivez à {} demain.", "write to {}, please", "<{}>", "cc:{};", "mon adresse, c'est {}"]),
    "PHONE": (_phone, ["Appelez-moi au {}.", "call {} after six", "tél. : {}", "My number is {}!", "joignable au {} ou non"]),
    "IBAN": (_iban, ["IBAN : {}", "virez sur {} avant lundi", "my account is {}.", "({})"]),
    "CARD": (_card, ["carte {} expire 09/27", "my card is {}", "paid with {}, twice", "n° {}"]),
    "NIR": (_nir, ["numéro de sécu {}", "NIR: {}.", "mon numéro est le {}"]),
    "SIRET": (_siret, ["SIRET {}", "l'établissement {} à Lyon"]),
    "SIREN": (_siren, ["SIREN {}", "RCS Paris {}", "siren n° {}"]),
    "IP": (_ip, ["from {} yesterday", "l'adresse {} répond", "host={} up", "[{}]"]),
    "API_KEY": (_key, ["export KEY={}", "la clé {} ne marche pas", 'use "{}" here', "{}"]),
    "SECRET": (_password, ["my password is {}", "mot de passe : {}", 'password="{}"', "DB_PASSWORD={}", "mdp: {}"]),
    "JWT": (_jwt, ["cookie {}", "le jeton {} a expiré"]),
    "PRIVATE_KEY": (_private_key, ["here:\n{}\n", "ma clé\n{}"]),
    "URL_CREDENTIALS": (lambda rng: f"{rng.choice(_FIRST[:2])}:{_password(rng)}".replace("@", "a").replace("#", "x"), ["postgres://{}@db.example/app", "https://{}@git.example/x.git"]),
    "SSN": (_ssn, ["SSN {}", "social security number: {}."]),
    "NINO": (_nino, ["NI number {}", "my NINO is {}."]),
}  # fmt: skip

_HARMLESS: Sequence[Callable[[random.Random], str]] = (
    lambda rng: (
        f"la version {rng.randint(1, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 99)} du {rng.randint(1, 28):02d}/{rng.randint(1, 12):02d}/2026"
    ),
    lambda rng: (
        f"at 20{rng.randint(10, 30)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T{rng.randint(10, 23)}:{rng.randint(10, 59)}:00Z"
    ),
    lambda rng: f"order {_digits(rng, 10)} was shipped",
    lambda rng: f"pi is 3.{_digits(rng, 14)}",
    lambda rng: f"il y a {rng.randint(1, 9)} {_digits(rng, 3)} {_digits(rng, 3)} habitants",
    lambda rng: f"the total is {_digits(rng, 2)},{_digits(rng, 3)}.{_digits(rng, 2)} EUR",
    lambda rng: f"commit {''.join(rng.choice('0123456789abcdef') for _ in range(40))}",
    lambda rng: (
        f"uuid {''.join(rng.choice('0123456789abcdef') for _ in range(8))}-4a1b-8c2d-9e3f-{''.join(rng.choice('0123456789abcdef') for _ in range(12))}"
    ),
    lambda rng: "password = os.environ['DB_PASSWORD']",
    lambda rng: "def login(password: str, token: Token) -> None:",
    lambda rng: "std::vector<int> a; ns::b::c(d); 127.0.0.1:8080 et 0.0.0.0",
    lambda rng: f"article L{rng.randint(100, 999)}-{rng.randint(1, 20)} du code, page {rng.randint(1, 900)}",
    lambda rng: (
        f"import numpy as np; x[{rng.randint(0, 99)}:{rng.randint(100, 999)}, ::2] = 1e-{rng.randint(1, 9)}"
    ),
    lambda rng: "je ne donne jamais mon mot de passe, et mon secret est bien gardé",
    lambda rng: f"{rng.randint(1, 49)} {rng.randint(1, 49)} {rng.randint(1, 49)} au loto",
    lambda rng: f"https://example.com/a/{_digits(rng, 6)}?page={rng.randint(1, 9)}",
    lambda rng: f"@decorator et user@localhost, ratio 16:9, à {rng.randint(10, 23)}h{rng.randint(10, 59)}",
    lambda rng: f"timestamp {rng.randint(1_600_000_000_000, 1_800_000_000_000)}",
)


def corpus(count: int, *, seed: int) -> list[Labelled]:
    """Return *count* texts in French and English: of each kind as many, as many again with nothing in them."""
    rng = random.Random(seed)  # noqa: S311 - a corpus, not a secret
    found = []
    for number in range(count):
        pieces: list[str] = []
        spans = []
        kinds = list(_KINDS)
        for step in range(4):
            if step % 2 == 0:
                kind = kinds[(number * 2 + step // 2) % len(kinds)]
                make, frames = _KINDS[kind]
                value, frame = make(rng), rng.choice(frames)
                before, after = frame.split("{}")
                start = len("".join([*pieces, before]).encode())
                spans.append((start, start + len(value.encode()), kind))
                pieces.append(before + value + after)
            else:
                pieces.append(rng.choice(_HARMLESS)(rng))
            pieces.append(rng.choice([" ", "\n", "; ", " / "]))
        found.append(Labelled("".join(pieces), tuple(spans)))
    return found
