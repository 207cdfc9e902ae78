"""A second labelled corpus for redaction, written from what is public about the forms, without a look at the patterns.

Texts are French, English, code and logs. What is planted comes as vendors and authorities publish it; beside it stand
numbers and words that look alike and are nothing of the kind. Kinds that the patterns do not claim to find are in it too.
Each form, sentence and look-alike belongs to one of two halves, by the checksum of its name: patterns may be mended by what
the half ``open`` shows; of the half ``held`` only figures are looked at.
"""

import base64
import json
import random
import string
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from simulators.personal_data import Labelled

Form = Callable[[random.Random], str]

DIGITS = string.digits
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
B64URL = ALNUM + "-_"
B64 = ALNUM + "+/"


def pick(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def digits(rng: random.Random, count: int) -> str:
    return pick(rng, DIGITS, count)


def core(text: str) -> str:
    """Mark what of a form is to be covered, where that is not all of it."""
    return f"\x02{text}\x03"


def grouped(text: str, sizes: Sequence[int], by: str = " ") -> str:
    found, at = [], 0
    for size in sizes:
        found.append(text[at : at + size])
        at += size
    return by.join(each for each in [*found, text[at:]] if each)


# --- check digits, as their authorities publish them ---


def luhn_total(number: str) -> int:
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        if place % 2:
            value = value * 2 - 9 * (value > 4)
        total += value
    return total


def with_luhn(body: str) -> str:
    return next(body + digit for digit in DIGITS if luhn_total(body + digit) % 10 == 0)


def without_luhn(body: str) -> str:
    return body + str((int(with_luhn(body)[-1]) + 3) % 10)


def iban_of(country: str, bban: str) -> str:
    rearranged = "".join(str(int(letter, 36)) for letter in f"{bban}{country}00")
    return f"{country}{98 - int(rearranged) % 97:02d}{bban}"


def nir_of(body: str) -> str:
    number = int(body.replace("2A", "19").replace("2B", "18"))
    return body + f"{97 - number % 97:02d}"


def siren_of(rng: random.Random) -> str:
    return with_luhn(rng.choice("345789") + digits(rng, 7))


def vat_of(siren: str) -> str:
    return f"FR{(12 + 3 * (int(siren) % 97)) % 97:02d}{siren}"


def nhs_of(rng: random.Random) -> str:
    while True:
        body = rng.choice("4679") + digits(rng, 8)
        check = (
            11 - sum(int(digit) * weight for digit, weight in zip(body, range(10, 1, -1), strict=True)) % 11
        )
        if check != 10:
            return body + str(check % 11)


# --- people, places ---

FIRST = [
    "camille", "lea", "chloe", "manon", "ines", "jules", "louis", "adam", "hugo", "nathan", "oliver",
    "amelia", "george", "isla", "harry", "noah", "emma", "liam", "ava", "mia", "yasmine", "mehdi",
    "fatou", "kofi", "wei", "priya",
]  # fmt: skip
LAST = [
    "martin", "bernard", "dubois", "thomas", "robert", "petit", "durand", "leroy", "moreau", "garcia",
    "smith", "jones", "taylor", "brown", "williams", "wilson", "khan", "patel", "nguyen", "okafor",
    "lefebvre", "oneill", "mcdonald",
]  # fmt: skip
STREETS_FR = [
    "rue des Lilas", "avenue de la République", "boulevard Voltaire", "impasse du Moulin", "allée des Cerisiers",
    "place de la Mairie", "chemin des Vignes", "quai de la Fosse", "cours Lafayette", "route de Vienne",
]  # fmt: skip
TOWNS_FR = [
    ("75011", "Paris"), ("69003", "Lyon"), ("13006", "Marseille"), ("33000", "Bordeaux"), ("44000", "Nantes"),
    ("59800", "Lille"), ("67000", "Strasbourg"), ("97400", "Saint-Denis"), ("20000", "Ajaccio"), ("06000", "Nice"),
]  # fmt: skip
STREETS_EN = [
    "High Street", "Church Lane", "Mill Road", "Victoria Avenue", "Oak Drive", "Station Road", "Elm St",
    "Maple Ave",
]  # fmt: skip
TOWNS_UK = [
    ("London", "SW1A 2AA"),
    ("Leeds", "LS1 4AP"),
    ("Bristol", "BS8 1TH"),
    ("Glasgow", "G2 3EX"),
    ("Oxford", "OX1 2JD"),
]
TOWNS_US = [
    ("Springfield, IL", "62704"),
    ("Austin, TX", "78701"),
    ("Portland, OR", "97205"),
    ("Boston, MA", "02108"),
]
HOSTS = [
    "gmail.com", "orange.fr", "free.fr", "wanadoo.fr", "laposte.net", "outlook.com", "yahoo.co.uk", "hotmail.fr", "icloud.com",
    "proton.me", "univ-lyon1.fr", "mail.acme-corp.com", "btinternet.com", "sub.domain.example.org", "company.photography",
]  # fmt: skip
STEMS = [
    "soleil",
    "azerty",
    "dragon",
    "Summer",
    "Chouette",
    "football",
    "Tr0ub4dor",
    "marseille",
    "Qwerty",
    "maison",
    "welcome",
]
MONTHS_FR = [
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre",
    "novembre", "décembre",
]  # fmt: skip
MONTHS_EN = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
]  # fmt: skip


def word(rng: random.Random) -> str:
    return pick(rng, string.ascii_lowercase, rng.randrange(4, 9))


def public_v4(rng: random.Random) -> str:
    return f"{rng.choice([5, 31, 51, 62, 77, 82, 90, 109, 151, 176, 185, 193, 212, 217])}." + ".".join(
        str(rng.randrange(1, 255)) for _ in range(3)
    )


def v6_groups(rng: random.Random, count: int) -> list[str]:
    return [f"{rng.randrange(0x1000, 0x10000):x}" for _ in range(count)]


def birth(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(1, 29), rng.randrange(1, 13), rng.randrange(1938, 2012)


def password(rng: random.Random) -> str:
    stem = rng.choice(STEMS)
    return rng.choice(
        [
            f"{stem}{rng.randrange(1900, 2030)}",
            f"{stem}{rng.choice('!@#$%&*')}{digits(rng, 3)}",
            pick(rng, ALNUM + "!@#$%^&*_-", rng.randrange(9, 18)),
            f"{word(rng)}-{word(rng)}-{word(rng)}-{word(rng)}",
        ]
    )


def jwt(rng: random.Random, *, claims: bool = True) -> str:
    def part(what: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(what).encode()).decode().rstrip("=")

    head = part({"alg": rng.choice(["HS256", "RS256", "ES256", "EdDSA"]), "typ": "JWT"})
    body = part(
        {
            "sub": digits(rng, 9),
            "iat": rng.randrange(10**9, 2 * 10**9),
            **({"name": word(rng)} if claims else {}),
        }
    )
    return f"{head}.{body}.{pick(rng, B64URL, rng.choice([43, 86, 342]))}"


def pem(rng: random.Random, label: str, *, lines: tuple[int, int] = (4, 26), by: str = "\n") -> str:
    body = [pick(rng, B64, 64) for _ in range(rng.randrange(*lines))] + [pick(rng, B64, 30) + "=="]
    return by.join([f"-----BEGIN {label}-----", *body, f"-----END {label}-----"])


def nir_body(rng: random.Random, place: str | None = None) -> str:
    year, month = rng.randrange(30, 100), rng.randrange(1, 13)
    place = place or f"{rng.randrange(1, 20):02d}"
    return f"{rng.choice('12')}{year:02d}{month:02d}{place}{rng.randrange(1, 990):03d}{rng.randrange(1, 999):03d}"


def mobile(rng: random.Random) -> str:
    return rng.choice(["6", "7"]) + digits(rng, 8)


def area(rng: random.Random) -> tuple[str, str]:
    """A North American area code and exchange: neither begins with 0 or 1, nor ends in 11."""
    return rng.choice(["212", "415", "617", "312", "206", "514", "416", "713"]), f"{rng.randrange(220, 989)}"[
        :2
    ] + rng.choice("23456789")


# Form: kind -> name -> what makes one. The name decides the half.
FORMS: dict[str, dict[str, Form]] = {
    "EMAIL": {
        "plain": lambda r: f"{r.choice(FIRST)}.{r.choice(LAST)}@{r.choice(HOSTS)}",
        "numbered": lambda r: f"{r.choice(FIRST)}{digits(r, 2)}@{r.choice(HOSTS)}",
        "plus": lambda r: f"{r.choice(FIRST)}+{word(r)}@{r.choice(HOSTS)}",
        "capitals": lambda r: f"{r.choice(FIRST)}_{r.choice(LAST)}@{r.choice(HOSTS)}".upper(),
        "apostrophe": lambda r: f"{r.choice(FIRST)}.o'{r.choice(LAST)}@{r.choice(HOSTS)}",
        "hyphen": lambda r: f"{r.choice(FIRST)}-{r.choice(LAST)}@{word(r)}-{word(r)}.fr",
        "mailto": lambda r: f"mailto:{core(f'{r.choice(FIRST)}@{r.choice(HOSTS)}')}",
        "angle": lambda r: f"<{core(f'{r.choice(FIRST)}.{r.choice(LAST)}@{r.choice(HOSTS)}')}>",
        "bracket at": lambda r: f"{r.choice(FIRST)} [at] {r.choice(HOSTS)}",
        "paren at dot": lambda r: f"{r.choice(FIRST)}(at){word(r)}(dot)com",
        "bracket at dot": lambda r: f"{r.choice(FIRST)}.{r.choice(LAST)} [at] {word(r)} [dot] org",
        "arobase": lambda r: f"{r.choice(FIRST)}.{r.choice(LAST)} [arobase] {r.choice(HOSTS)}",
        "percent": lambda r: f"{r.choice(FIRST)}.{r.choice(LAST)}%40{r.choice(HOSTS)}",
        "idn": lambda r: f"{r.choice(FIRST)}@{word(r)}é{word(r)}.fr",
        "accent": lambda r: f"andré.{r.choice(LAST)}@{r.choice(HOSTS)}",
        "spaced": lambda r: f"{r.choice(FIRST)}.{r.choice(LAST)} @ {r.choice(HOSTS)}",
    },
    "PHONE": {
        "fr pairs": lambda r: grouped("0" + mobile(r), [2, 2, 2, 2, 2]),
        "fr dots": lambda r: grouped("0" + mobile(r), [2, 2, 2, 2, 2], "."),
        "fr dashes": lambda r: grouped("0" + mobile(r), [2, 2, 2, 2, 2], "-"),
        "fr slashes": lambda r: grouped("0" + mobile(r), [2, 2, 2, 2, 2], "/"),
        "fr nbsp": lambda r: grouped("0" + mobile(r), [2, 2, 2, 2, 2], "\u00a0"),
        "fr narrow": lambda r: grouped("0" + mobile(r), [2, 2, 2, 2, 2], "\u202f"),
        "fr bare": lambda r: "0" + mobile(r),
        "fr fixed": lambda r: grouped(f"0{r.choice('12345')}{digits(r, 8)}", [2, 2, 2, 2, 2]),
        "fr threes": lambda r: grouped("0" + mobile(r), [4, 3, 3]),
        "fr plus": lambda r: "+33 " + grouped(mobile(r), [1, 2, 2, 2, 2]),
        "fr plus bare": lambda r: f"+33{mobile(r)}",
        "fr plus zero": lambda r: "+33 (0)" + grouped(mobile(r), [1, 2, 2, 2, 2]),
        "fr double zero": lambda r: "0033 " + grouped(mobile(r), [1, 2, 2, 2, 2]),
        "fr reunion": lambda r: grouped(f"0692{digits(r, 6)}", [4, 2, 2, 2]),
        "uk mobile": lambda r: f"07{r.choice('4789')}{digits(r, 2)} {digits(r, 6)}",
        "uk mobile threes": lambda r: f"07{r.choice('4789')}{digits(r, 2)} {digits(r, 3)} {digits(r, 3)}",
        "uk london": lambda r: f"020 {r.choice('78')}{digits(r, 3)} {digits(r, 4)}",
        "uk london paren": lambda r: f"(020) {r.choice('78')}{digits(r, 3)} {digits(r, 4)}",
        "uk city": lambda r: f"01{r.choice(['61', '21', '41', '13'])} {r.randrange(200, 999)} {digits(r, 4)}",
        "uk town": lambda r: f"01{r.randrange(200, 999)} {r.randrange(200, 999)}{digits(r, 3)}",
        "uk plus": lambda r: f"+44 7{digits(r, 3)} {digits(r, 6)}",
        "uk plus zero": lambda r: f"+44 (0)20 {r.choice('78')}{digits(r, 3)} {digits(r, 4)}",
        "us paren": lambda r: "({}) {}-{}".format(*area(r), digits(r, 4)),
        "us paren close": lambda r: "({}){}-{}".format(*area(r), digits(r, 4)),
        "us dashes": lambda r: "{}-{}-{}".format(*area(r), digits(r, 4)),
        "us dots": lambda r: "{}.{}.{}".format(*area(r), digits(r, 4)),
        "us spaces": lambda r: "{} {} {}".format(*area(r), digits(r, 4)),
        "us one": lambda r: "1-{}-{}-{}".format(*area(r), digits(r, 4)),
        "us plus": lambda r: "+1 ({}) {}-{}".format(*area(r), digits(r, 4)),
        "us e164": lambda r: "+1{}{}{}".format(*area(r), digits(r, 4)),
        "be mobile": lambda r: f"+32 4{digits(r, 2)} {digits(r, 2)} {digits(r, 2)} {digits(r, 2)}",
        "ch mobile": lambda r: f"+41 79 {digits(r, 3)} {digits(r, 2)} {digits(r, 2)}",
        "de mobile": lambda r: f"+49 151 {digits(r, 8)}",
        "de slash": lambda r: f"+49 (0)30 / {digits(r, 7)}",
        "es": lambda r: f"+34 6{digits(r, 2)} {digits(r, 3)} {digits(r, 3)}",
        "ma": lambda r: f"+212 6{digits(r, 2)}-{digits(r, 6)}",
        "sn": lambda r: f"00221 77 {digits(r, 3)} {digits(r, 2)} {digits(r, 2)}",
        "in": lambda r: f"+91 {r.choice('789')}{digits(r, 4)} {digits(r, 5)}",
        "tel uri": lambda r: f"tel:{core('+33' + mobile(r))}",
    },
    "NIR": {
        "spaced": lambda r: grouped(nir_of(nir_body(r)), [1, 2, 2, 2, 3, 3, 2]),
        "bare": lambda r: nir_of(nir_body(r)),
        "key apart": lambda r: grouped(nir_of(nir_body(r)), [13]),
        "slash key": lambda r: grouped(nir_of(nir_body(r)), [13], " / "),
        "dots": lambda r: grouped(nir_of(nir_body(r)), [1, 2, 2, 2, 3, 3, 2], "."),
        "dashes": lambda r: grouped(nir_of(nir_body(r)), [1, 2, 2, 2, 3, 3, 2], "-"),
        "corsica": lambda r: grouped(nir_of(nir_body(r, r.choice(["2A", "2B"]))), [1, 2, 2, 2, 3, 3, 2]),
        "corsica bare": lambda r: nir_of(nir_body(r, r.choice(["2A", "2B"]))),
        "overseas": lambda r: grouped(nir_of(nir_body(r, "97")), [1, 2, 2, 2, 3, 3, 2]),
        "abroad": lambda r: grouped(nir_of(nir_body(r, "99")), [1, 2, 2, 2, 3, 3, 2]),
        "nbsp": lambda r: grouped(nir_of(nir_body(r)), [1, 2, 2, 2, 3, 3, 2], "\u00a0"),
        "without key": lambda r: grouped(nir_body(r), [1, 2, 2, 2, 3, 3]),
    },
    "SIRET": {
        "bare": lambda r: with_luhn(siren_of(r) + f"{r.randrange(1, 90):04d}"),
        "spaced": lambda r: grouped(with_luhn(siren_of(r) + f"{r.randrange(1, 90):04d}"), [3, 3, 3, 5]),
        "nic apart": lambda r: grouped(with_luhn(siren_of(r) + f"{r.randrange(1, 90):04d}"), [9, 5]),
        "nbsp": lambda r: grouped(
            with_luhn(siren_of(r) + f"{r.randrange(1, 90):04d}"), [3, 3, 3, 5], "\u00a0"
        ),
        "dots": lambda r: grouped(with_luhn(siren_of(r) + f"{r.randrange(1, 90):04d}"), [3, 3, 3, 5], "."),
    },
    "SIREN": {
        "bare": siren_of,
        "spaced": lambda r: grouped(siren_of(r), [3, 3, 3]),
        "vat": lambda r: vat_of(siren_of(r)),
        "vat spaced": lambda r: grouped(vat_of(siren_of(r)), [2, 2, 3, 3, 3]),
    },
    "IBAN": {
        "fr spaced": lambda r: grouped(iban_of("FR", digits(r, 23)), [4] * 6),
        "fr bare": lambda r: iban_of("FR", digits(r, 10) + pick(r, DIGITS + "ABC", 11) + digits(r, 2)),
        "fr lower": lambda r: iban_of("FR", digits(r, 23)).lower(),
        "de spaced": lambda r: grouped(iban_of("DE", digits(r, 18)), [4] * 5),
        "gb spaced": lambda r: grouped(
            iban_of("GB", r.choice(["NWBK", "BARC", "LOYD"]) + digits(r, 14)), [4] * 5
        ),
        "gb bare": lambda r: iban_of("GB", r.choice(["NWBK", "BARC", "LOYD"]) + digits(r, 14)),
        "be": lambda r: grouped(iban_of("BE", digits(r, 12)), [4] * 3),
        "es dashes": lambda r: grouped(iban_of("ES", digits(r, 20)), [4] * 5, "-"),
        "it": lambda r: iban_of("IT", "X" + digits(r, 22)),
        "nl": lambda r: grouped(iban_of("NL", "ABNA" + digits(r, 10)), [4] * 4),
        "ch": lambda r: grouped(iban_of("CH", digits(r, 17)), [4] * 5),
        "lu nbsp": lambda r: grouped(iban_of("LU", digits(r, 16)), [4] * 4, "\u00a0"),
        "mc": lambda r: iban_of("MC", digits(r, 23)),
        "prefixed": lambda r: "IBAN" + core(iban_of("FR", digits(r, 23))),
    },
    "CARD": {
        "visa": lambda r: grouped(with_luhn("4" + digits(r, 14)), [4, 4, 4, 4]),
        "visa bare": lambda r: with_luhn("4" + digits(r, 14)),
        "visa dashes": lambda r: grouped(with_luhn("4" + digits(r, 14)), [4, 4, 4, 4], "-"),
        "mastercard": lambda r: grouped(with_luhn(f"5{r.randrange(1, 6)}" + digits(r, 13)), [4, 4, 4, 4]),
        "mastercard two": lambda r: with_luhn(f"{r.randrange(2221, 2721)}" + digits(r, 11)),
        "amex": lambda r: grouped(with_luhn(r.choice(["34", "37"]) + digits(r, 12)), [4, 6, 5]),
        "amex bare": lambda r: with_luhn(r.choice(["34", "37"]) + digits(r, 12)),
        "discover": lambda r: grouped(with_luhn("6011" + digits(r, 11)), [4, 4, 4, 4]),
        "diners": lambda r: grouped(with_luhn("36" + digits(r, 11)), [4, 6, 4]),
        "jcb": lambda r: grouped(with_luhn("35" + f"{r.randrange(28, 90)}" + digits(r, 11)), [4, 4, 4, 4]),
        "maestro": lambda r: with_luhn("6759" + digits(r, 11)),
        "dots": lambda r: grouped(with_luhn("4" + digits(r, 14)), [4, 4, 4, 4], "."),
        "nbsp": lambda r: grouped(with_luhn("4" + digits(r, 14)), [4, 4, 4, 4], "\u00a0"),
    },
    "IP": {
        "v4": public_v4,
        "v4 port": lambda r: f"{core(public_v4(r))}:{r.randrange(1024, 65536)}",
        "v4 cidr": lambda r: f"{core(public_v4(r))}/{r.choice([24, 28, 32])}",
        "v4 bracketed": lambda r: f"[{core(public_v4(r))}]",
        "v4 underscored": lambda r: f"ip-{core(public_v4(r).replace('.', '-'))}.eu-west-3.compute.internal",
        "v6 full": lambda r: ":".join(["2a01", "0e0a", *(f"{r.randrange(0x10000):04x}" for _ in range(6))]),
        "v6 short": lambda r: "2a01:e0a:" + ":".join(v6_groups(r, 2)) + "::" + v6_groups(r, 1)[0],
        "v6 upper": lambda r: ("2001:861:" + ":".join(v6_groups(r, 6))).upper(),
        "v6 port": lambda r: f"[{core('2a02:8428:' + ':'.join(v6_groups(r, 6)))}]:{r.randrange(1024, 65536)}",
        "v6 cidr": lambda r: f"{core(f'2a01:cb00:{v6_groups(r, 1)[0]}::')}/48",
        "v6 mapped": lambda r: f"::ffff:{public_v4(r)}",
        "v6 zone": lambda r: f"{core('fe80::' + ':'.join(v6_groups(r, 4)))}%eth0",
    },
    "MAC": {
        "colons": lambda r: ":".join(pick(r, HEX, 2) for _ in range(6)),
        "dashes": lambda r: "-".join(pick(r, HEX.upper(), 2) for _ in range(6)),
        "cisco": lambda r: ".".join(pick(r, HEX, 4) for _ in range(3)),
    },
    "API_KEY": {
        "aws id": lambda r: r.choice(["AKIA", "ASIA"]) + pick(r, string.ascii_uppercase + "234567", 16),
        "github classic": lambda r: r.choice(["ghp_", "gho_", "ghs_", "ghu_"]) + pick(r, ALNUM, 36),
        "github fine": lambda r: f"github_pat_{pick(r, ALNUM, 22)}_{pick(r, ALNUM, 59)}",
        "gitlab": lambda r: "glpat-" + pick(r, B64URL, 20),
        "slack bot": lambda r: f"xoxb-{digits(r, 12)}-{digits(r, 13)}-{pick(r, ALNUM, 24)}",
        "slack app": lambda r: f"xapp-1-A{pick(r, ALNUM.upper(), 10)}-{digits(r, 13)}-{pick(r, HEX, 64)}",
        "slack hook": lambda r: (
            f"https://hooks.slack.com/services/T{pick(r, ALNUM.upper(), 8)}/B{pick(r, ALNUM.upper(), 10)}/{core(pick(r, ALNUM, 24))}"
        ),
        "stripe": lambda r: (
            r.choice(["sk_live_", "rk_live_", "sk_test_"]) + pick(r, ALNUM, r.choice([24, 99]))
        ),
        "stripe hook": lambda r: "whsec_" + pick(r, ALNUM, 32),
        "openai": lambda r: f"sk-{pick(r, ALNUM, 20)}T3BlbkFJ{pick(r, ALNUM, 20)}",
        "openai project": lambda r: f"sk-proj-{pick(r, B64URL, 74)}T3BlbkFJ{pick(r, B64URL, 74)}",
        "anthropic": lambda r: f"sk-ant-api03-{pick(r, B64URL, 93)}AA",
        "google": lambda r: "AIza" + pick(r, B64URL, 35),
        "google secret": lambda r: "GOCSPX-" + pick(r, B64URL, 28),
        "google access": lambda r: "ya29." + pick(r, B64URL, 120),
        "twilio": lambda r: "SK" + pick(r, HEX, 32),
        "sendgrid": lambda r: f"SG.{pick(r, B64URL, 22)}.{pick(r, B64URL, 43)}",
        "npm": lambda r: "npm_" + pick(r, ALNUM, 36),
        "pypi": lambda r: "pypi-AgEIcHlwaS5vcmc" + pick(r, B64URL, 130),
        "hugging face": lambda r: "hf_" + pick(r, ALNUM, 34),
        "digitalocean": lambda r: "dop_v1_" + pick(r, HEX, 64),
        "shopify": lambda r: r.choice(["shpat_", "shpss_"]) + pick(r, HEX, 32),
        "telegram": lambda r: f"{r.choice('123456789')}{digits(r, 9)}:AA{pick(r, B64URL, 33)}",
        "discord": lambda r: f"M{pick(r, ALNUM, 23)}.{pick(r, B64URL, 6)}.{pick(r, B64URL, 38)}",
        "mailgun": lambda r: "key-" + pick(r, HEX, 32),
        "mailchimp": lambda r: f"{pick(r, HEX, 32)}-us{r.randrange(1, 22)}",
        "vault": lambda r: "hvs." + pick(r, B64URL, 90),
        "linear": lambda r: "lin_api_" + pick(r, ALNUM, 40),
        "notion": lambda r: "ntn_" + pick(r, ALNUM, 46),
        "figma": lambda r: "figd_" + pick(r, B64URL, 40),
        "databricks": lambda r: "dapi" + pick(r, HEX, 32),
        "groq": lambda r: "gsk_" + pick(r, ALNUM, 52),
        "replicate": lambda r: "r8_" + pick(r, ALNUM, 37),
        "square": lambda r: "sq0atp-" + pick(r, B64URL, 22),
        "docker": lambda r: "dckr_pat_" + pick(r, B64URL, 27),
        "grafana": lambda r: f"glsa_{pick(r, ALNUM, 32)}_{pick(r, HEX, 8)}",
        "supabase": lambda r: "sbp_" + pick(r, HEX, 40),
        "postman": lambda r: f"PMAK-{pick(r, HEX, 24)}-{pick(r, HEX, 34)}",
        "new relic": lambda r: "NRAK-" + pick(r, ALNUM.upper(), 27),
        "atlassian": lambda r: f"ATATT3xFfGF0{pick(r, B64URL, 170)}={pick(r, HEX.upper(), 8)}",
        "age": lambda r: "AGE-SECRET-KEY-1" + pick(r, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
        "azure storage": lambda r: f"AccountKey={core(pick(r, B64, 86) + '==')}",
        "sentry": lambda r: f"sntrys_{pick(r, B64, 120)}",
        "perplexity": lambda r: "pplx-" + pick(r, ALNUM, 48),
        "xai": lambda r: "xai-" + pick(r, ALNUM, 80),
        "bearer": lambda r: f"Authorization: Bearer {core(pick(r, B64URL, 40))}",
        "basic": lambda r: (
            f"Authorization: Basic {core(base64.b64encode(f'{word(r)}:{password(r)}'.encode()).decode())}"
        ),
    },
    "JWT": {
        "plain": jwt,
        "bearer": lambda r: f"Bearer {core(jwt(r))}",
        "short": lambda r: jwt(r, claims=False),
    },
    "PRIVATE_KEY": {
        "rsa": lambda r: pem(r, "RSA PRIVATE KEY"),
        "pkcs8": lambda r: pem(r, "PRIVATE KEY"),
        "ec": lambda r: pem(r, "EC PRIVATE KEY", lines=(2, 4)),
        "openssh": lambda r: pem(r, "OPENSSH PRIVATE KEY"),
        "encrypted": lambda r: pem(r, "ENCRYPTED PRIVATE KEY"),
        "one line": lambda r: pem(r, "PRIVATE KEY", by="\\n"),
        "indented": lambda r: pem(r, "RSA PRIVATE KEY", by="\n    "),
        "windows": lambda r: pem(r, "PRIVATE KEY", by="\r\n"),
        "pgp": lambda r: pem(r, "PGP PRIVATE KEY BLOCK"),
        "quoted": lambda r: pem(r, "PRIVATE KEY", by="\n> "),
    },
    "SSN": {
        "dashes": lambda r: (
            f"{r.choice([r.randrange(1, 666), r.randrange(667, 900)]):03d}-{r.randrange(1, 100):02d}-{r.randrange(1, 10000):04d}"
        ),
        "spaces": lambda r: (
            f"{r.randrange(100, 666):03d} {r.randrange(1, 100):02d} {r.randrange(1, 10000):04d}"
        ),
        "bare": lambda r: f"{r.randrange(100, 666):03d}{r.randrange(1, 100):02d}{r.randrange(1, 10000):04d}",
    },
    "NINO": {
        "bare": lambda r: f"{r.choice(['AB', 'CE', 'JN', 'PX', 'SR', 'WM'])}{digits(r, 6)}{r.choice('ABCD')}",
        "spaced": lambda r: (
            f"{r.choice(['AB', 'CE', 'JN', 'PX', 'SR', 'WM'])} {grouped(digits(r, 6), [2, 2, 2])} {r.choice('ABCD')}"
        ),
        "lower": lambda r: f"{r.choice(['ab', 'ce', 'jn'])}{digits(r, 6)}{r.choice('abcd')}",
        "half spaced": lambda r: (
            f"{r.choice(['AB', 'CE', 'JN'])}{grouped(digits(r, 6), [2, 2, 2])}{r.choice('ABCD')}"
        ),
    },
    "NHS": {
        "spaced": lambda r: grouped(nhs_of(r), [3, 3, 4]),
        "bare": nhs_of,
        "dashes": lambda r: grouped(nhs_of(r), [3, 3, 4], "-"),
    },
    "PASSPORT": {
        "fr": lambda r: f"{digits(r, 2)}{pick(r, string.ascii_uppercase, 2)}{digits(r, 5)}",
        "uk": lambda r: digits(r, 9),
        "us": lambda r: r.choice(string.ascii_uppercase) + digits(r, 8),
        "de": lambda r: "C" + pick(r, "CFGHJKLMNPRTVWXYZ0123456789", 8),
        "mrz": lambda r: (
            f"P<FRA{r.choice(LAST).upper()}<<{r.choice(FIRST).upper()}".ljust(44, "<")
            + f"\n{digits(r, 2)}{pick(r, string.ascii_uppercase, 2)}{digits(r, 6)}FRA{digits(r, 7)}F{digits(r, 7)}".ljust(
                45, "<"
            )
        ),
    },
    "BIRTH_DATE": {
        "slashes": lambda r: "{:02d}/{:02d}/{}".format(*birth(r)),
        "dots": lambda r: "{:02d}.{:02d}.{}".format(*birth(r)),
        "iso": lambda r: "{2}-{1:02d}-{0:02d}".format(*birth(r)),
        "french": lambda r: "{} {french} {}".format(*birth(r)[::2], french=r.choice(MONTHS_FR)),
        "english": lambda r: "{} {english} {}".format(*birth(r)[::2], english=r.choice(MONTHS_EN)),
        "american": lambda r: "{english} {}, {}".format(*birth(r)[::2], english=r.choice(MONTHS_EN)),
        "short": lambda r: "{:02d}/{:02d}/{short:02d}".format(*birth(r)[:2], short=r.randrange(100)),
    },
    "ADDRESS": {
        "fr": lambda r: "{} {}, {} {}".format(r.randrange(1, 180), r.choice(STREETS_FR), *r.choice(TOWNS_FR)),
        "fr bis": lambda r: "{} {}, {}, {} {}".format(
            r.randrange(1, 180), r.choice(["bis", "ter"]), r.choice(STREETS_FR), *r.choice(TOWNS_FR)
        ),
        "fr lines": lambda r: "{} {}\n{} {}".format(
            r.randrange(1, 180), r.choice(STREETS_FR), *r.choice(TOWNS_FR)
        ),
        "fr street": lambda r: f"{r.randrange(1, 180)} {r.choice(STREETS_FR)}",
        "uk": lambda r: "{} {}, {} {}".format(r.randrange(1, 300), r.choice(STREETS_EN), *r.choice(TOWNS_UK)),
        "uk flat": lambda r: "Flat {}, {} {}, {}, {}".format(
            r.randrange(1, 40), r.randrange(1, 300), r.choice(STREETS_EN), *r.choice(TOWNS_UK)
        ),
        "us": lambda r: "{} {}, {} {}".format(
            r.randrange(100, 9999), r.choice(STREETS_EN), *r.choice(TOWNS_US)
        ),
        "us apt": lambda r: "{} {} Apt {}, {} {}".format(
            r.randrange(100, 9999), r.choice(STREETS_EN), r.randrange(1, 60), *r.choice(TOWNS_US)
        ),
        "postcode": lambda r: r.choice(TOWNS_UK)[1],
        "po box": lambda r: "PO Box {}, {} {}".format(r.randrange(100, 9999), *r.choice(TOWNS_US)),
    },
    "SECRET": {"password": password},
    "URL_CREDENTIALS": {
        "https": lambda r: (
            f"https://{core(f'{r.choice(FIRST)}:{pick(r, ALNUM, 12)}')}@{word(r)}.example.com/repo.git"
        ),
        "postgres": lambda r: (
            f"postgresql://{core('app:' + pick(r, ALNUM + '_-.', 14))}@db.{word(r)}.net:5432/prod"
        ),
        "mongo": lambda r: (
            f"mongodb+srv://{core(f'{word(r)}:{pick(r, ALNUM, 16)}')}@cluster0.ab1cd.mongodb.net/test"
        ),
        "redis": lambda r: f"redis://:{core(pick(r, ALNUM, 20))}@cache.internal:6379/0",
        "amqp": lambda r: f"amqps://{core(f'{word(r)}:{pick(r, ALNUM, 20)}')}@rabbit.{word(r)}.io/vhost",
        "mysql": lambda r: f"mysql+pymysql://{core('root:' + pick(r, ALNUM, 8))}@localhost/shop",
        "token user": lambda r: f"https://{core(pick(r, ALNUM, 40))}@git.{word(r)}.com/{word(r)}.git",
        "ftp": lambda r: f"ftp://{core(f'{r.choice(FIRST)}:{pick(r, ALNUM, 8)}')}@ftp.{word(r)}.fr/pub",
        "encoded": lambda r: (
            f"smtp://{core(f'{r.choice(FIRST)}%40{word(r)}.fr:{pick(r, ALNUM, 8)}%21')}@smtp.{word(r)}.fr:587"
        ),
    },
}

# Parts of addresses that give access: only what stands after the mark is labelled.
QUERIES: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "access_token": lambda r: ("https://api.{}.com/v1/me?access_token=", pick(r, ALNUM, 40)),
    "api_key": lambda r: ("https://maps.{}.com/json?address=Lyon&api_key=", pick(r, ALNUM, 32)),
    "sas": lambda r: (
        "https://{}.blob.core.windows.net/c/f.csv?sv=2022-11-02&sp=r&sig=",
        pick(r, ALNUM, 42) + "%3D",
    ),
    "amz": lambda r: (
        "https://{}.s3.amazonaws.com/f.pdf?X-Amz-Expires=3600&X-Amz-Signature=",
        pick(r, HEX, 64),
    ),
    "goog": lambda r: ("https://storage.googleapis.com/{}/f?X-Goog-Signature=", pick(r, HEX, 256)),
    "reset": lambda r: ("https://{}.fr/mot-de-passe/reinitialiser?token=", pick(r, HEX, 48)),
    "password": lambda r: ("http://{}.local/login?user=bob&password=", pick(r, ALNUM, 10)),
    "session": lambda r: ("https://{}.org/app;jsessionid=", pick(r, HEX.upper(), 32)),
    "code": lambda r: ("https://app.{}.io/callback?state=1&code=", pick(r, B64URL, 43)),
}

# Sentences around what is planted: {} is it.
CUES: dict[str, list[str]] = {
    "EMAIL": [
        "Vous pouvez m'écrire à {}, merci.", "Contact: {}", "Reply to {} by Friday.", "from={} to=support subject=hello",
        '{{"email": "{}", "plan": "pro"}}', "Mon adresse mail c'est {} si besoin", "{} m'a répondu hier.", "cc {};",
        "id,nom,mail\n7,Dupont,{}\n", "Author: Someone {}", "(voir avec {})",
    ],
    "PHONE": [
        "Tél. : {}", "Appelez-moi au {} après 18h.", "You can reach me at {} any time.", "call {} and ask for Sam", "mobile={};",
        '"phone": "{}",', "Mon numéro est le {}.", "Phone: {} / Fax on request", "c'est {} pour les urgences", "{} (bureau)",
        "Text me: {}", "WhatsApp {}",
    ],
    "NIR": [
        "N° de sécurité sociale : {}", "Mon NIR est {}.", "numéro de sécu {} merci", '"nir": "{}"', "Assuré {} né à Lyon",
        "Sécurité sociale n° {}, caisse de Paris",
    ],
    "SIRET": ["SIRET : {}", "SIRET {} - APE 6201Z", "Notre numéro SIRET est le {}.", '"siret": "{}"', "(n° SIRET {})", "Établissement {} à Nantes"],
    "SIREN": ["SIREN : {}", "SIREN {} RCS Paris", '"siren": "{}"', "immatriculée sous le numéro SIREN {}", "N° TVA intracommunautaire : {} (SIREN)"],
    "IBAN": [
        "IBAN : {}", "Virement sur {} avant le 30.", "Please wire to {} today.", "iban={}", '"iban":"{}"', "Mon RIB : {} BIC AGRIFRPP",
        "Compte {} (Crédit Agricole)",
    ],
    "CARD": [
        "Carte : {} exp 09/27", "My card number is {}.", "CB {} CVV 123", "pay with {} please", '"pan":"{}"', "card={}&amount=10",
        "numéro de carte {}, merci", "Charged to {} on Monday",
    ],
    "IP": [
        "Connection from {} refused", "Mon IP est {}.", '{} - - [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200', "client_ip={}", "ssh root@{}",
        "ban {} now", "X-Forwarded-For: {}", "L'adresse IP {} a été bloquée.", "ping {}",
    ],
    "MAC": ["MAC: {}", "ether {} txqueuelen 1000", "Adresse MAC {}", "wlan0 HWaddr {}", "device {} joined"],
    "API_KEY": [
        "My key is {} does it work?", "API_KEY={}", 'client = Client("{}")', "export TOKEN={}", "Voici la clé : {}", "{}",
        'headers = {{"x-api-key": "{}"}}', "  token: {}", "I leaked {} on GitHub, what now?", "curl -H 'X-Key: {}' https://api.example.com",
    ],
    "JWT": ["Authorization: {}", "token={}", "Décode ce jeton : {}", "cookie: session={}; Path=/", "Why is {} rejected?", '"id_token":"{}"'],
    "PRIVATE_KEY": ["{}", "Voici ma clé :\n{}\nPourquoi ça ne marche pas ?", 'key = """{}"""', "cat id_rsa\n{}", "tls.key: |\n    {}"],
    "SSN": ["SSN: {}", "My social security number is {}.", "ssn={}", "Social Security No. {}", "taxpayer SSN {} filed"],
    "NINO": ["National Insurance number: {}", "My NI number is {}.", "NINO {}", "nino={}", "NI no: {}"],
    "NHS": ["NHS number: {}", "Patient NHS No {}", "My NHS number is {}, can you", "nhs_number={}"],
    "PASSPORT": ["Passport number: {}", "Passeport n° {}", "My passport is {}.", "numéro de passeport : {}", "passport no. {} expires 2030", "passport: {}"],
    "BIRTH_DATE": [
        "Date of birth: {}", "Né le {} à Lyon", "née le {}", "born on {}", "DOB: {}", "Date de naissance : {}", "I was born {} in Leeds",
        '"birth_date": "{}"', "my birthday is {}", "naissance {}",
    ],
    "ADDRESS": [
        "J'habite au {}.", "Adresse : {}", "Livrer à {} svp", "My address is {}.", "I live at {}", "Ship to: {}", "domicilié {}",
        '"address": "{}"',
    ],
    "SECRET": [
        "password: {}", "Mon mot de passe est {} et ça ne marche pas", "mdp : {}", "PASSWORD={}", 'DB_PASSWORD="{}"', "my password is {} btw",
        '{{"username": "bob", "password": "{}"}}', "Server=db;User Id=sa;Password={};Encrypt=true", "mysql --user=root --password={} shop",
        "passwd = '{}'", "Identifiant : jdupont / mot de passe : {}", 'client_secret: "{}"', "<password>{}</password>", "pwd={}", "code secret : {}",
        "passphrase: {}", "spring.datasource.password={}", "machine h login bob password {}", "WiFi key: {}", "use `{}` as the password",
    ],
    "URL_CREDENTIALS": [
        "git clone {}", "DATABASE_URL={}", "connect to {} fails", "url: {}", 'engine = create_engine("{}")', "Je me connecte à {} mais",
        "remote: {}",
    ],
}  # fmt: skip

# What looks alike and is nothing of the kind.
NEGATIVES: dict[str, Form] = {
    "order": lambda r: f"Order number {r.choice('123456789')}{digits(r, 9)} shipped",
    "commande": lambda r: f"Commande n° {r.choice('123456789')}{digits(r, 7)} en cours",
    "invoice": lambda r: f"Facture FA-{r.randrange(2019, 2027)}-{digits(r, 5)} payée",
    "ticket": lambda r: f"ticket #{digits(r, 6)} and JIRA-{digits(r, 4)}",
    "isbn 13": lambda r: f"ISBN 978-{r.randrange(10)}-{digits(r, 4)}-{digits(r, 4)}-{r.randrange(10)}",
    "isbn bare": lambda r: f"ISBN 978{digits(r, 10)}",
    "isbn 10": lambda r: f"ISBN {r.randrange(10)}-{digits(r, 3)}-{digits(r, 5)}-{r.choice('0123456789X')}",
    "issn": lambda r: f"ISSN {digits(r, 4)}-{digits(r, 4)}",
    "ean": lambda r: f"code-barres {r.choice('345')}{digits(r, 12)}",
    "epoch": lambda r: f"created_at: {r.randrange(1_500_000_000, 1_900_000_000)}",
    "epoch ms": lambda r: f'"ts": {r.randrange(1_500_000_000_000, 1_900_000_000_000)}',
    "epoch us": lambda r: f"at {r.randrange(1_500_000_000, 1_900_000_000)}.{digits(r, 6)}",
    "iso time": lambda r: f"2026-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}T{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}.{digits(r, 3)}Z",
    "log time": lambda r: f"[{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}] INFO started in {digits(r, 3)} ms",
    "compact time": lambda r: f"backup-2026{r.randrange(1, 13):02d}{r.randrange(1, 29):02d}{r.randrange(24):02d}{r.randrange(60):02d}{r.randrange(60):02d}.tar.gz",
    "dates": lambda r: f"du {r.randrange(1, 29):02d}/{r.randrange(1, 13):02d}/2026 au {r.randrange(1, 29):02d}/{r.randrange(1, 13):02d}/2026",
    "meeting": lambda r: f"La réunion est le {r.randrange(1, 29)} {r.choice(MONTHS_FR)} 2026 à {r.randrange(8, 18)}h30",
    "history": lambda r: f"La bataille eut lieu le {r.randrange(1, 29)} {r.choice(MONTHS_FR)} {r.randrange(1400, 1815)}",
    "hours": lambda r: f"open {r.randrange(7, 10)}:00-{r.randrange(17, 20)}:30, closed 12:00-14:00",
    "semver": lambda r: f"upgrade from {r.randrange(1, 20)}.{r.randrange(30)}.{r.randrange(30)} to v{r.randrange(20)}.0.0-rc.{r.randrange(9)}",
    "four versions": lambda r: f"Windows version 10.0.{r.randrange(10000, 23000)}.{r.randrange(1000, 5000)}",
    "browser": lambda r: f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{r.randrange(90, 150)}.0.{r.randrange(4000, 7000)}.{r.randrange(300)} Safari/537.36",
    "section": lambda r: f"see section {r.randrange(1, 9)}.{r.randrange(1, 9)}.{r.randrange(1, 9)}.{r.randrange(1, 9)} of the standard",
    "oid": lambda r: f"OID 1.3.6.1.4.1.{r.randrange(100, 60000)}.{r.randrange(9)}.1",
    "loopback": lambda r: f"listening on {r.choice(['127.0.0.1:8080', '0.0.0.0', '[::1]:3000', 'localhost:5432'])}",  # noqa: S104
    "mask": lambda r: f"netmask {r.choice(['255.255.255.0', '255.255.0.0', '255.255.255.240'])}",
    "cxx": lambda r: f"std::vector<int>::iterator it; ns::{word(r)}::run(); a::b::c",
    "rust": lambda r: f"use std::collections::HashMap; let x = {word(r)}::new::<u8>();",
    "slices": lambda r: f"x[{r.randrange(9)}:{r.randrange(10, 90)}:{r.randrange(2, 9)}] and a[::2] and b[::-1]",
    "uuid": lambda r: f"request {uuid.UUID(int=r.getrandbits(128), version=4)} done",
    "sha1": lambda r: f"commit {pick(r, HEX, 40)}",
    "sha256": lambda r: f"sha256:{pick(r, HEX, 64)}",
    "short hash": lambda r: f"fixed in {pick(r, HEX, 7)} and {pick(r, HEX, 10)}",
    "integrity": lambda r: f'"integrity": "sha512-{pick(r, B64, 86)}=="',
    "etag": lambda r: f'ETag: "{pick(r, HEX, 32)}-{r.randrange(1, 30)}"',
    "image": lambda r: f"data:image/png;base64,iVBORw0KGgo{pick(r, B64, 200)}=",
    "public key": lambda r: pem(r, "PUBLIC KEY", lines=(2, 5)),
    "certificate": lambda r: pem(r, "CERTIFICATE", lines=(5, 12)),
    "ssh public": lambda r: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{pick(r, B64, 43)} laptop",
    "pi": lambda r: f"pi is about 3.14159265358979323846 and e 2.718281828459045 and x {r.random()}",
    "product": lambda r: f"{digits(r, 10)} × {digits(r, 9)} = {r.getrandbits(62)}",  # noqa: RUF001
    "fibonacci": lambda _: "1 1 2 3 5 8 13 21 34 55 89 144 233 377 610 987 1597 2584 4181 6765",
    "table": lambda r: "\n".join(" ".join(str(r.randrange(10, 100)) for _ in range(8)) for _ in range(3)),
    "matrix": lambda r: f"[[{digits(r, 2)}, {digits(r, 2)}, {digits(r, 3)}], [{digits(r, 1)}, {digits(r, 2)}, {digits(r, 4)}]]",
    "csv": lambda r: ",".join(digits(r, r.randrange(1, 5)) for _ in range(10)),
    "population": lambda r: f"{r.randrange(1, 90)} {r.randrange(100, 999)} {r.randrange(100, 999)} habitants",
    "amount fr": lambda r: f"{r.randrange(1, 900)} {r.randrange(100, 999)} {r.randrange(100, 999)},{digits(r, 2)} €",
    "amount en": lambda r: f"${r.randrange(1, 900)},{r.randrange(100, 999)},{r.randrange(100, 999)}.{digits(r, 2)}",
    "coordinates": lambda r: f"48.{digits(r, 6)}, 2.{digits(r, 7)}",
    "scientific": lambda r: f"6.02214076e23, 1.{digits(r, 8)}e-{r.randrange(5, 20)}",
    "lottery": lambda r: "tirage : " + " ".join(f"{n:02d}" for n in sorted(r.sample(range(1, 50), 5))) + f" complémentaire {r.randrange(1, 11):02d}",
    "parcel": lambda r: f"colis 6A{digits(r, 11)} et 1Z999AA1{digits(r, 10)}",
    "sixteen": lambda r: f"référence {without_luhn(r.choice('456') + digits(r, 14))}",
    "long id": lambda r: f"tweet {r.randrange(10**18, 2 * 10**18)}",
    "pages": lambda r: f"pp. {r.randrange(100, 400)}-{r.randrange(401, 900)}, vol. {r.randrange(1, 40)}({r.randrange(1, 12)})",
    "doi": lambda r: f"doi:10.{r.randrange(1000, 9999)}/{word(r)}.{r.randrange(2000, 2026)}.{digits(r, 6)}",
    "arxiv": lambda r: f"arXiv:{r.randrange(10, 26)}{r.randrange(1, 13):02d}.{digits(r, 5)}v2",
    "cve": lambda r: f"CVE-{r.randrange(2010, 2026)}-{digits(r, 5)}",
    "plate": lambda r: f"ref AB-{digits(r, 3)}-CD",
    "colours": lambda r: f"#{pick(r, HEX, 6)}; rgb({r.randrange(256)}, {r.randrange(256)}, {r.randrange(256)})",
    "hex dump": lambda r: f"{pick(r, HEX, 8)}: {' '.join(pick(r, HEX, 4) for _ in range(8))}",
    "pointers": lambda r: f"segfault at 0x7ffd{pick(r, HEX, 8)} ip 0000{pick(r, HEX, 12)}",
    "array": lambda r: "{" + ", ".join(f"0x{pick(r, HEX, 2)}" for _ in range(8)) + "}",
    "decorator": lambda r: f"@property\ndef {word(r)}(self): return self._{word(r)}",
    "handle": lambda r: f"thanks @{word(r)} and @{word(r)}_{word(r)}!",
    "npm": lambda r: f"npm install @{word(r)}/{word(r)}@{r.randrange(9)}.{r.randrange(9)}.{r.randrange(9)} left-pad@latest",
    "diff": lambda r: f"@@ -{r.randrange(900)},7 +{r.randrange(900)},9 @@ def {word(r)}():",
    "retina": lambda r: f"https://cdn.{word(r)}.com/img/logo@2x.png",
    "reset prose": lambda _: "How do I reset my password? The password must have 12 characters.",
    "mot de passe prose": lambda _: "Le mot de passe doit contenir 8 caractères. Où changer mon mot de passe ?",
    "getpass": lambda _: "password = getpass.getpass()\ntoken = tokenizer.encode(text)",
    "environment": lambda _: 'password=os.environ["DB_PASSWORD"], secret=settings.SECRET_KEY',
    "placeholder": lambda r: r.choice(["api_key=YOUR_API_KEY", "password: <your-password>", "token: ${TOKEN}", "secret = {{ secret }}", "PASSWORD=********"]),
    "tokens": lambda r: f"max_tokens={r.randrange(100, 9000)}, total_tokens: {digits(r, 4)}, 128k token context",
    "typed": lambda _: "def login(user: str, password: str) -> Token: ...",
    "null secret": lambda _: '{"password": null, "token": "", "secret": false}',
    "bearer prose": lambda _: "The bearer of this letter sends a bearer token in the header.",
    "sklearn": lambda _: "pip install scikit-learn sk-learn-extra; from sklearn import svm",
    "query": lambda r: f"https://{word(r)}.com/search?page={r.randrange(90)}&sort=asc&q={word(r)}#L{r.randrange(900)}",
    "port": lambda r: f"http://{word(r)}.local:{r.randrange(1024, 9999)}/v1/{word(r)}",
    "tz": lambda r: f"2026-11-23 {r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}+02:00",
    "range": lambda r: f"between {r.randrange(1900, 1990)}-{r.randrange(1991, 2026)} and {r.randrange(10, 90)}-{r.randrange(100, 200)}",
    "short numbers": lambda r: f"Composez le {r.choice(['15', '17', '18', '112', '3615', '3939'])} ou tapez 1",
    "score": lambda r: f"6-{r.randrange(5)} 3-6 7-5, {r.randrange(100)}-{r.randrange(100)} at half time",
    "dimension": lambda r: f"{r.randrange(100, 900)}x{r.randrange(100, 900)}x{r.randrange(10, 90)} mm, {digits(r, 4)} x {digits(r, 4)} px",
    "model": lambda r: f"claude-{r.randrange(3, 6)}-5-sonnet-2024{r.randrange(1, 13):02d}{r.randrange(1, 29):02d} or gpt-4-0613",
    "serial": lambda r: f"S/N {pick(r, ALNUM.upper(), 4)}-{pick(r, ALNUM.upper(), 4)}-{pick(r, ALNUM.upper(), 4)}",
    "chess": lambda _: "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6",
    "latex": lambda r: f"$\\sum_{{i=1}}^{{{r.randrange(99)}}} x_i^2 = {digits(r, 5)}$ \\label{{eq:{word(r)}}}",
    "sql": lambda r: f"SELECT * FROM users WHERE id = {digits(r, 7)} AND token IS NOT NULL LIMIT 100;",  # noqa: S608
    "bible": lambda r: f"Jean {r.randrange(1, 20)}:{r.randrange(1, 40)}-{r.randrange(41, 60)}",
    "street prose": lambda _: "La rue de la République est fermée; the High Street was busy. 12 avenues, 3 places.",
    "quantities": lambda r: f"{r.randrange(2, 12)} cours de yoga, {r.randrange(2, 9)} places assises, {r.randrange(100, 300)} g de farine",
    "passport prose": lambda r: f"A passport is valid for 10 years. Passport rule {r.randrange(100)} changed in {r.randrange(2000, 2026)}.",
    "born prose": lambda r: f"She was born in {r.randrange(1900, 2000)}; né en {r.randrange(1900, 2000)}; the idea was born on Tuesday.",
    "siren prose": lambda _: "La sirène des pompiers sonne à 12 heures; a siren wailed for 90 seconds.",
}  # fmt: skip

PROSE = [
    "Pouvez-vous m'expliquer la différence entre les deux approches ?", "Could you help me with this, please?", "J'ai besoin d'un résumé en trois points.",
    "It worked yesterday, and since the update it does not.", "Merci d'avance pour votre aide !", "Here is what I tried so far:", "Réécris ce message plus poliment :",
    "Translate this into French:", "Why do I get this error?", "Voici le contexte :", "Explain it as if I were ten.", "Fais-en un tableau.",
]  # fmt: skip


def is_held(name: str) -> bool:
    return zlib.crc32(name.encode()) & 1 == 1


def names_of(each: Iterable[str], prefix: str, *, held: bool) -> list[str]:
    return [name for name in each if is_held(f"{prefix}/{name}") is held]


def half_of(*, held: bool) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str], list[str]]:
    """Return forms, sentences and look-alikes of one half. A kind that has one of a sort has it in both."""
    forms = {kind: names_of(each, f"form/{kind}", held=held) or list(each) for kind, each in FORMS.items()}
    cues = {kind: names_of(each, f"cue/{kind}", held=held) or each for kind, each in CUES.items()}
    return forms, cues, names_of(NEGATIVES, "negative", held=held), names_of(QUERIES, "query", held=held)


def planted(rng: random.Random, kind: str, form: str, cue: str) -> tuple[str, str, str]:
    """Return a sentence in three: before what is planted, that itself, and behind it."""
    value = FORMS[kind][form](rng)
    value = value if "\x02" in value else core(value)
    sentence = cue.replace("{}", value).replace("{{", "{").replace("}}", "}")
    before, _, rest = sentence.partition("\x02")
    inner, _, after = rest.partition("\x03")
    return before, inner, after


def corpus(count: int, *, seed: int, half: str) -> Iterator[Labelled]:
    """Yield *count* texts of a half, "open" or "held"."""
    rng = random.Random(f"{seed}/{half}")  # noqa: S311
    forms, cues, negatives, queries = half_of(held=half == "held")
    for _ in range(count):
        text, spans = b"", []
        for _ in range(rng.randrange(2, 7)):
            roll, kind = rng.random(), None
            before = inner = after = ""
            if roll < 0.35:
                kind = rng.choice(list(FORMS))
                before, inner, after = planted(rng, kind, rng.choice(forms[kind]), rng.choice(cues[kind]))
            elif roll < 0.38:
                kind = "URL_CREDENTIALS"
                before, inner = QUERIES[rng.choice(queries)](rng)
                before = before.format(word(rng))
            elif roll < 0.75:
                before = NEGATIVES[rng.choice(negatives)](rng)
            else:
                before = rng.choice(PROSE)
            if kind is not None:
                start = len(text) + len(before.encode())
                spans.append((start, start + len(inner.encode()), kind))
            text += f"{before}{inner}{after}".encode()
            text += b"\n" if text.endswith(b"-----") else rng.choice([b"\n", b"\n\n", b". "])
        yield Labelled(text.decode(), tuple(spans))
