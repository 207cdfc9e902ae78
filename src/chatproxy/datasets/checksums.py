"""Is a run of digits what it looks like? The checksums by which numbers of banks and states are told from others."""

from collections.abc import Sequence

_MOD = 97
_LA_POSTE = "356000000"
_SIRET_DIGITS = 14
_NIR_DIGITS = 15
_IBAN_LENGTHS = dict(
    item.split(":")
    for item in [
        "AD:24",
        "AE:23",
        "AL:28",
        "AT:20",
        "AZ:28",
        "BA:20",
        "BE:16",
        "BG:22",
        "BH:22",
        "BI:27",
        "BR:29",
        "BY:28",
        "CH:21",
        "CR:22",
        "CY:28",
        "CZ:24",
        "DE:22",
        "DJ:27",
        "DK:18",
        "DO:28",
        "EE:20",
        "EG:29",
        "ES:24",
        "FI:18",
        "FK:18",
        "FO:18",
        "FR:27",
        "GB:22",
        "GE:22",
        "GI:23",
        "GL:18",
        "GR:27",
        "GT:28",
        "HN:28",
        "HR:21",
        "HU:28",
        "IE:22",
        "IL:23",
        "IQ:23",
        "IS:26",
        "IT:27",
        "JO:30",
        "KW:30",
        "KZ:20",
        "LB:28",
        "LC:32",
        "LI:21",
        "LT:20",
        "LU:20",
        "LV:21",
        "LY:25",
        "MC:27",
        "MD:24",
        "ME:22",
        "MK:19",
        "MN:20",
        "MR:27",
        "MT:31",
        "MU:30",
        "NI:28",
        "NL:18",
        "NO:15",
        "OM:23",
        "PK:24",
        "PL:28",
        "PS:29",
        "PT:25",
        "QA:29",
        "RO:24",
        "RS:22",
        "RU:33",
        "SA:24",
        "SC:31",
        "SD:18",
        "SE:24",
        "SI:19",
        "SK:24",
        "SM:27",
        "SO:23",
        "ST:25",
        "SV:28",
        "TL:23",
        "TN:24",
        "TR:26",
        "UA:29",
        "VA:22",
        "VG:24",
        "XK:20",
        "YE:30",
    ]
)
_CARD_LENGTHS: Sequence[tuple[int, int, frozenset[int]]] = (
    (2221, 2720, frozenset({16})),
    (3000, 3059, frozenset({14})),
    (3400, 3499, frozenset({15})),
    (3528, 3589, frozenset({16})),
    (3600, 3699, frozenset({14})),
    (3700, 3799, frozenset({15})),
    (3800, 3999, frozenset({14})),
    (4000, 4999, frozenset({13, 16, 19})),
    (5000, 5999, frozenset({16})),
    (6000, 6999, frozenset({16, 17, 18, 19})),
)
"""By the first four digits: how long a card number of that network is (ISO/IEC 7812)."""


def luhn(digits: str) -> bool:
    """Whether *digits* has the check digit of ISO/IEC 7812."""
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(value - 9 * (value > 9) for value in doubled)) % 10 == 0  # noqa: PLR2004


def is_card(digits: str) -> bool:
    """Whether *digits* is a payment card number: first digits, length and check digit."""
    head = int(digits[:4])
    return any(
        first <= head <= last and len(digits) in lengths for first, last, lengths in _CARD_LENGTHS
    ) and luhn(digits)


def is_siret(digits: str) -> bool:
    """Whether *digits* is the number of a French establishment; the post office has a rule of its own."""
    if len(digits) != _SIRET_DIGITS or digits.strip("0") == "":
        return False
    return luhn(digits) or (digits.startswith(_LA_POSTE) and sum(map(int, digits)) % 5 == 0)


def is_siren(digits: str) -> bool:
    """Whether *digits* is the number of a French company."""
    return len(digits) == len(_LA_POSTE) and digits.strip("0") != "" and luhn(digits)


def is_french_vat(digits: str) -> bool:
    """Whether *digits* are a key and the number of a French company, as value-added tax has them."""
    key, siren = digits[:2], digits[2:]
    return is_siren(siren) and int(key) == (12 + 3 * (int(siren) % _MOD)) % _MOD


def is_nir(text: str) -> bool:
    """Whether *text* is a French social security number with its key; Corsica has letters in the department."""
    if len(text) != _NIR_DIGITS or text[0] not in "1278":
        return False
    number = text[:13].upper().replace("2A", "19").replace("2B", "18")
    month = text[3:5]
    if not (number.isdigit() and text[13:].isdigit() and ("01" <= month <= "12" or month >= "20")):
        return False
    return _MOD - int(number) % _MOD == int(text[13:])


def iban_length(country: str) -> int | None:
    """Return how many characters an IBAN of *country* has; None: it has none (ISO 13616)."""
    length = _IBAN_LENGTHS.get(country.upper())
    return None if length is None else int(length)


def is_iban(text: str) -> bool:
    """Whether *text*, without spaces, is an IBAN: length of its country and check digits (ISO 7064)."""
    if len(text) != iban_length(text[:2]):
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % _MOD == 1
