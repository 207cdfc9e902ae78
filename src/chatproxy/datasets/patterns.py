"""What looks like personal data or a secret, and how is it told from what only looks like it?

1. Patterns are RE2's: the time is linear in the text, whatever the text. What a pattern finds is a candidate; a
   checksum or a rule decides. Of a candidate that fails, nothing is skipped but its first character.
2. A pattern is looked for only in a text that passes its gate: that has some digits, a sign, a word, as each find has.
3. In doubt it is found: a word too many that is taken out costs less than a number that stays.
"""

import ipaddress
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import re2

from chatproxy.datasets.checksums import (
    iban_length,
    is_card,
    is_french_vat,
    is_iban,
    is_nir,
    is_siren,
    is_siret,
)


class Kind(StrEnum):
    """What is taken out; the word that stands in its place."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    IBAN = "IBAN"
    CARD = "CARD"
    NIR = "NIR"
    """French social security number."""
    SSN = "SSN"
    """United States social security number."""
    NINO = "NINO"
    """British national insurance number."""
    NHS = "NHS"
    """British health service number."""
    PASSPORT = "PASSPORT"
    BIRTH_DATE = "BIRTH_DATE"
    ADDRESS = "ADDRESS"
    SIRET = "SIRET"
    SIREN = "SIREN"
    IP = "IP"
    MAC = "MAC"
    URL_CREDENTIALS = "URL_CREDENTIALS"
    API_KEY = "API_KEY"
    JWT = "JWT"
    PRIVATE_KEY = "PRIVATE_KEY"
    SECRET = "SECRET"  # noqa: S105 - a word
    """What stands where a password or a token is named."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of the text's UTF-8 that is taken out."""

    start: int
    end: int
    kind: Kind


Check = Callable[[bytes, int, int], tuple[int, int] | None]
"""Of a candidate in a text: where it is; None: it is none."""

_SPACE = r"[ \t\x{A0}\x{202F}\x{2009}]"
_SEP = r"[ .\-/\x{A0}\x{202F}\x{2009}]"
_BEFORE = r"(?:^|[^\p{L}\p{N}_])"
_BEFORE_NUMBER = r"(?:^|[^\p{L}\p{N}_.,+\-]|[^\p{N}][.,\-])"
_LETTER_OR_DIGIT = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset(b"0123456789")
_PART_OF_WORD = bytes(_LETTER_OR_DIGIT) + bytes(range(128, 256)) + b"'-"
_MOST_DIGITS = 19
_LEAST_DIGITS = 13
_MOST_IN_A_NUMBER = 8
"""Groups of digits: a French social security number has seven."""


def _ends_word(text: bytes, end: int) -> bool:
    return end >= len(text) or text[end] not in _LETTER_OR_DIGIT


def _whole_word(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    return (start, end) if _ends_word(text, end) else None


def _as_it_is(_: bytes, start: int, end: int) -> tuple[int, int]:
    return start, end


def _iban(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take as many characters as the country's IBANs have: what follows may look like more of it."""
    length = iban_length(text[start : start + 2].decode())
    if length is None:
        return None
    taken = bytearray()
    at = start
    while at < end and len(taken) < length:
        if text[at] in _LETTER_OR_DIGIT:
            taken.append(text[at])
        at += 1
    return (start, at) if is_iban(taken.decode()) and _ends_word(text, at) else None


def _nir(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    value = bytes(char for char in text[start:end] if char in _LETTER_OR_DIGIT).decode()
    return (start, end) if is_nir(value) and _ends_word(text, end) else None


def _vat(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    value = bytes(char for char in text[start:end] if char in _DIGITS).decode()
    return (start, end) if is_french_vat(value) and _ends_word(text, end) else None


def _siren(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    value = bytes(char for char in text[start:end] if char in _DIGITS).decode()
    return (start, end) if is_siren(value) and _ends_word(text, end) else None


def _phone(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    return (start, end) if _ends_word(text, end) else None


def _american(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take a number, not three of a row of numbers: that has some before and some behind."""
    is_row = text[start - 1 : start] == b" " == text[end : end + 1] and (
        text[start - 2 : start - 1].isdigit() and text[end + 1 : end + 2].isdigit()
    )
    return None if is_row or not _ends_word(text, end) else (start, end)


_SHORTEST_PHONE, _LONGEST_PHONE = 8, 15


def _international(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take a number that begins with its country; what follows after a space may be another number."""
    while sum(char in _DIGITS for char in text[start:end]) >= _SHORTEST_PHONE:
        digits = sum(char in _DIGITS for char in text[start:end])
        if digits <= _LONGEST_PHONE and _ends_word(text, end):
            return start, end
        end = _before_last_group(text, start, end)
    return None


_LEAST_GENERATED = 3
_HASHES = re.compile(rb"(?i)(?:sha|md5|blake)")
_SORTS = (string.ascii_uppercase.encode(), string.ascii_lowercase.encode(), string.digits.encode())
_REST_OF_KEY = re.compile(rb"[A-Za-z0-9_-]*")


def _generated(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take what a generator made of capitals, small letters and digits, and is no hash, to its end."""
    _, _, value = text[start:end].replace(b"-", b"_").partition(b"_")
    has_all = all(len(value) - len(value.translate(None, sort)) >= _LEAST_GENERATED for sort in _SORTS)
    if not has_all or _HASHES.match(text, start):
        return None
    rest = _REST_OF_KEY.match(text, end)
    return start, rest.end() if rest is not None else end


def _before_last_group(text: bytes, start: int, end: int) -> int:
    while end > start and text[end - 1] in _DIGITS:
        end -= 1
    while end > start and text[end - 1] not in _DIGITS:
        end -= 1
    return end


_VERSION = re.compile(
    rb"(?i)\b(?:versions?|v|ver|release|build|sections?|chapters?|chapitres?|articles?|clauses?|figures?|\xc2\xa7)[.: ]{0,2}$"
)
"""Before four numbers that are those of a program or of a chapter."""
_LONGEST_VERSION_WORD = 12


def _ip(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take an address that may be somebody's: not this machine's own, nor a mask, nor nobody's."""
    value = text[start:end].decode()
    follows = text[end : end + 2]
    if not _ends_word(text, end) or (follows[:1] == b"." and follows[1:2].isdigit()):
        return None
    try:
        address = ipaddress.ip_address(value.replace("-", "."))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # Names of programs, such as a::b, are none.
        groups = [group for group in value.split(":") if group]
        is_short = len(groups) < 3 and address.ipv4_mapped is None  # noqa: PLR2004
        if is_short or follows[:1] == b":" or not any(char.isdigit() for char in value):
            return None
    elif _VERSION.search(text[max(0, start - _LONGEST_VERSION_WORD) : start]) is not None:
        return None
    is_nobodys = address.is_loopback or address.is_unspecified or address.is_multicast
    return None if is_nobodys or value.startswith("255.") else (start, end)


_PLACEHOLDER = re.compile(
    rb"(?i)\$(?:\w+$|[{(])|%(?:\w+%?$|[({])|[{<\[]|os\.|env|process\.|self\.|config|settings"
)
"""What a program takes a secret from, or a person is to fill in."""
_LITERALS = frozenset((b"null", b"none", b"true", b"false", b"undefined"))
_LEAST_SECRET = 6
_WORDS_OF_A_PHRASE = 4


def _secret(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take a value that a person or a generator made: not a word of a program, nor a place that is to be filled in."""
    return _made_up(text, start, start + len(text[start:end].rstrip(b".,;:)")))


def _made_up(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    value = text[start:end]
    bare = value.lower().rstrip(b"}]")
    if len(value) < _LEAST_SECRET or bare in _LITERALS or _PLACEHOLDER.match(bare) or b"(" in value:
        return None
    has_digit = any(char in _DIGITS for char in value)
    has_sign = any(char not in _LETTER_OR_DIGIT and char not in b".-" for char in value)
    is_phrase = value.count(b"-") >= _WORDS_OF_A_PHRASE - 1
    is_mask = not any(char in _LETTER_OR_DIGIT or char > 127 for char in value)  # noqa: PLR2004 - ASCII ends there
    return (start, end) if (has_digit or has_sign or is_phrase) and not is_mask else None


def _mac(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take six pairs, not six of the many of a fingerprint, nor nobody's."""
    is_more = text[start - 1 : start] in {b":", b"-"} or text[end : end + 1] in {b":", b"-"}
    digits = {char for char in text[start:end].lower() if char in b"0123456789abcdef"}
    return (start, end) if _ends_word(text, end) and not is_more and len(digits) > 1 else None


def _address(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take an address up to its last whole word."""
    while end > start and not _ends_word(text, end):
        end = start + len(text[start:end].rstrip(_PART_OF_WORD))
        end = start + len(text[start:end].rstrip(b" ,;\n"))
    return (start, end) if end > start else None


_IMAGE = re.compile(rb"@\dx\.(?:png|jpe?g|gif|webp|svg|avif)$")


def _email(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take an address, not the name of a picture for a sharper screen."""
    return None if _IMAGE.search(text[start:end]) else (start, end)


def _passport(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    has_digit = any(char in _DIGITS for char in text[start:end])
    return (start, end) if has_digit and _ends_word(text, end) else None


class _Gate(StrEnum):
    """What every text has that a pattern can find something in: a pattern that is quick to look for."""

    DIGITS = r"\d(?:[^\d\n]{0,6}\d){5}"
    """The shortest number is that of a person in Britain: six digits."""
    KEYS = r"[A-Za-z0-9_.:+/=-]{16}"
    PEM = r"PRIVATE KEY|<<"
    WORDS = r"(?i)pass|pwd|mdp|secret|key|cl[ée]|token|jeton|bearer|basic"
    NAMED = r"(?i)(?:ssn|social|s[ée]cu|insee|\bnir\b|nhs|nino|insurance|\bni\b|passe?port|siren|rcs|tva|\bvat\b).*\d"
    BIRTH = r"(?i)born|birth|\bd\.?o\.?b|n[ée]e? le|naissance|anniversaire"
    STREETS = (
        r"\d[ ,]{1,2}(?i:(?:bis|ter|quater),? )?(?i:rue|av|bd|bld|boul|imp|all|pl|ch|quai|cours|r(?:ou)?te|sq|pass|faub|villa|res|rés)"
        r"|\d[A-Za-z]? [\p{Lu}]|[A-Z]\d[A-Z\d]? ?\d[A-Z]{2}|(?i:box|bp) ?\d"
    )
    SIGNS = r"(?i)@|%40|://|=|[\[(] ?(?:at|arobase|chez)"
    NETWORK = (
        r"\d\.\d|[0-9A-Fa-f:]:[0-9A-Fa-f:]|[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}"
    )


@dataclass(frozen=True, slots=True)
class _Pattern:
    kind: Kind
    source: str
    check: Check = _whole_word
    gate: "_Gate" = _Gate.DIGITS


_KEY_FORMS = "|".join(  # noqa: FLY002 - a vendor a line
    (
        r"sk-[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, OpenRouter
        r"[spr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{24,}",  # Stripe
        r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}|LTAI[A-Za-z0-9]{12,26}|AKID[A-Za-z0-9]{32}",  # AWS, Alibaba, Tencent
        r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}",
        r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt)-[A-Za-z0-9_.-]{20,64}",
        r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{20,}|xwfp-[A-Za-z0-9-]{20,}",
        r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}|1//0[A-Za-z0-9_-]{40,}",
        r"hf_[A-Za-z0-9]{30,64}|api_org_[A-Za-z0-9]{34}",
        r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64}|xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}",
        r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|rubygems_[a-f0-9]{48}|dckr_[po]at_[A-Za-z0-9_-]{24,}|CLOJARS_[a-z0-9]{60}",
        r"do[opr]_v1_[a-f0-9]{64}|shp(?:at|ss|ca|pa)_[a-fA-F0-9]{32}|hv[sbr]\.[A-Za-z0-9_-]{24,}",
        r"AGE-SECRET-KEY-1[A-Z0-9]{58}|[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}",
        r"(?:SK|AC)[a-f0-9]{32}|key-[a-f0-9]{32}|[a-f0-9]{32}-us\d{1,2}",  # Twilio, Mailgun, Mailchimp
        r"\d{8,10}:AA[A-Za-z0-9_-]{33}|[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",  # Telegram, Discord
        r"sbp_[a-f0-9]{40}|dapi[a-f0-9]{32}(?:-\d)?|r8_[A-Za-z0-9]{37}|glc_[A-Za-z0-9+/=]{32,}|glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}",
        r"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}|EAAA[A-Za-z0-9_-]{60}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}",
        r"NRA[KAL]-[A-Z0-9]{27}|NRII-[A-Za-z0-9_-]{32}|AT[AC]TT3[A-Za-z0-9_=-]{60,}|sntry[su]_[A-Za-z0-9+/=_-]{60,}",
        r"figd_[A-Za-z0-9_-]{36,}|lin_(?:api|oauth)_[A-Za-z0-9]{32,}|ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}",
        (
            r"(?:gsk|xai|pplx|nvapi|fw|csk|co|phx|sgp|nfp|pscale_(?:pw|tkn|oauth)|dp\.(?:pt|st|ct|sa)|tfp|pat|key|CFPAT|EZAK|FlyV1 fm2)"
            r"[_-][A-Za-z0-9_+/=.-]{30,}"
        ),
    )
)
_KEY_OF_ANY_KIND = r"[A-Za-z][A-Za-z0-9]{1,11}[_-][A-Za-z0-9_-]{32,256}"
"""Of a vendor that is not listed: a short name, and what a generator made."""
_NAMES_OF_SECRETS = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|mot de passe|mdp|secret|code secret|api[ _-]?key|cl[ée] api"
    r"|access[ _-]?key(?:[ _-]?id)?|account[ _-]?key|(?:auth|access|refresh|bearer|id)?[ _-]?token|jeton|client[ _-]?secret"
    r"|wi-?fi[ _-](?:key|code)|(?:cl[ée]|code)(?: d[ue])?(?: la)? wi-?fi|pass"
    r"|[a-z0-9_]{0,40}(?:secret|passw(?:or)?d|pwd|token|api_?key|access_?key|private_?key|secret_?key))"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:er|st|nd|rd|th)?"
_MONTH = (
    r"(?i:jan(?:uary|vier|\.)?|f[ée]b(?:ruary|\.)?|f[ée]v(?:rier|\.)?|mar(?:ch|s|\.)?|a[pv]r(?:il|\.)?|ma[iy]|june?|juin|jul(?:y|\.)?"
    r"|juil(?:let|\.)?|aug(?:ust|\.)?|ao[uû]t|sep(?:t|tember|tembre)?\.?|oct(?:ober|obre|\.)?|nov(?:ember|embre|\.)?"
    r"|d[ée]c(?:ember|embre|\.)?)"
)
_DATE = (
    rf"(?:\d{{1,2}}[/.\- ]\d{{1,2}}[/.\- ](?:\d{{4}}|\d{{2}})|\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}"
    rf"|{_DAY} (?:of )?{_MONTH},? \d{{4}}|{_MONTH} {_DAY},? \d{{4}})"
)
_NAMED = r"[^\p{L}\p{N}\n]{0,8}(?:(?i:number|num[ée]ro|num|no|nr|n|is|est|le|la|on|of|du|de|date|code)[^\p{L}\p{N}\n]{1,6}){0,4}"
"""Between what names a number and the number."""
_POSTCODE_UK = r"(?:[A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]?) \d[ABD-HJLNP-UW-Z]{2}"
_WORD = r"[\p{Lu}][\p{L}'\x{2019}-]+"
_TOWN = rf"(?:[,;]?[ \n]{{1,2}}(?:\d{{5}}\b|{_POSTCODE_UK})|[,;]? {_WORD}(?: (?:{_POSTCODE_UK}|\d{{1,2}}\b|{_WORD})){{0,3}}){{0,4}}"
_STREET_FR = (
    rf"\d{{1,4}}(?: ?[A-Da-d]\b)?(?:,? ?(?i:bis|ter|quater))?,? (?i:rue|avenue|av\.?|boulevard|bd\.?|bld|impasse|all[ée]e|place|pl\.|chemin"
    rf"|quai|cours|route|rte|square|passage|faubourg|villa|r[ée]sidence)(?: (?i:de|du|des|la|le|les|d'|l'|et|sur|à)){{0,3}} ?(?:(?i:d'|l'|d\x{2019}|l\x{2019}))?"
    rf"[\p{{Lu}}\d][\p{{L}}\d'\x{2019}-]*(?: (?:(?i:de|du|des|la|le|les|et|sur) )?[\p{{Lu}}][\p{{L}}'\x{2019}-]*){{0,3}}{_TOWN}"
)
_ROOM = r"(?i:flat|apt|apartment|unit|suite)"
_STREET_EN = (
    rf"(?:{_ROOM} [\dA-Z]{{1,5}},? )?\d{{1,5}}[A-Za-z]? (?:(?:[\p{{Lu}}][\p{{L}}'\x{{2019}}-]*\.?|\d{{1,3}}(?:st|nd|rd|th)) ){{1,3}}"
    r"(?:Street|St|Road|Rd|Lane|Ln|Avenue|Ave|Drive|Dr|Boulevard|Blvd|Court|Ct|Close|Crescent|Place|Pl|Square|Sq|Terrace|Way"
    r"|Gardens|Grove|Hill|Row|Parkway|Pkwy|Highway|Hwy)\b\.?"
    rf"(?:,? (?:{_ROOM}|#) ?[\dA-Z]{{1,5}}\b)?{_TOWN}"
)
_BOX = rf"(?:(?i:p\.? ?o\.? box)|BP) ?\d{{1,6}}{_TOWN}"
_MRZ = r"[PIAC][A-Z<][A-Z]{3}[A-Z<]{0,34}<<[A-Z<]{1,40}\s{1,2}[A-Z0-9<]{30,44}(?:\s{1,2}[A-Z<]{30})?"
"""The lines of a passport that machines read; the name is in them."""
_PATTERNS = (
    _Pattern(
        Kind.PRIVATE_KEY,
        r"(?s)(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z))",
        _as_it_is, gate=_Gate.PEM),
    _Pattern(
        Kind.JWT,
        _BEFORE + r"(eyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*)",
        _as_it_is, gate=_Gate.KEYS),
    _Pattern(Kind.API_KEY, _BEFORE + f"({_KEY_FORMS})", _as_it_is, gate=_Gate.KEYS),
    _Pattern(Kind.API_KEY, _BEFORE + f"({_KEY_OF_ANY_KIND})", _generated, gate=_Gate.KEYS),
    _Pattern(
        Kind.API_KEY,
        r"(?i)(?:hooks\.slack\.com/(?:services|workflows)/[A-Z0-9]{6,}/[A-Z0-9]{6,}/|discord(?:app)?\.com/api/webhooks/\d{15,}/"
        r"|webhook\.office\.com/webhookb2/)([A-Za-z0-9_@/-]{20,})",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.API_KEY, r"(?i)\b(?:bearer|basic|token)\s{1,4}([A-Za-z0-9._~+/-]{20,200}={0,2})", _secret, gate=_Gate.WORDS),
    _Pattern(Kind.URL_CREDENTIALS, r"[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s/?#@:]*:[^\s/?#@]+)@", _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.URL_CREDENTIALS,
        r"(?i)[?&;#](?:auth|code|key|pass|sig|sid|jwt|otp|ticket"
        r"|[a-z0-9_.-]{0,30}(?:token|secret|api_?key|passw(?:or)?d|pwd|session(?:_?id)?|signature|credential))=([^\s&#\"'<>]{4,})",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.SECRET,
        _BEFORE + r"(?i:" + _NAMES_OF_SECRETS + r")[\"']?\s{0,3}(?:[:=]|=>|:=|\bis\b|\best\b)\s{0,3}[\"'`]?"
        r"([^\s\"'`<>,]{6,100})",
        _secret, gate=_Gate.WORDS),
    _Pattern(
        Kind.SECRET,
        _BEFORE + r"(?i:" + _NAMES_OF_SECRETS + r")[\"']?\s{0,3}(?:[:=]|=>|:=|\bis\b|\best\b)\s{0,3}"
        r"(?:\"([^\s\"\n]{6,100})\"|'([^\s'\n]{6,100})'|`([^\s`\n]{6,100})`)",
        _made_up, gate=_Gate.WORDS),
    _Pattern(Kind.SECRET, r"<(?i:" + _NAMES_OF_SECRETS + r")>([^\s<]{6,100})", _made_up, gate=_Gate.WORDS),
    _Pattern(
        Kind.SECRET,
        r"(?i)[\"'`]([^\s\"'`]{6,100})[\"'`] (?:as|is|comme|est) (?:the |my |our |your |le |mon |notre |votre )?(?:password|passphrase|mot de passe|mdp)",
        _made_up, gate=_Gate.WORDS),
    _Pattern(
        Kind.SECRET,
        _BEFORE + r"(?i:login|user(?:name)?) \S{1,60} (?i:password|pass) (\S{6,100})",
        _made_up, gate=_Gate.WORDS),
    _Pattern(
        Kind.EMAIL,
        r"(?:^|[^\p{L}\p{N}._%+-])([\p{L}\p{N}][\p{L}\p{N}._%+'-]*(?:@|%40)"
        r"(?:[\p{L}\p{N}][\p{L}\p{N}-]*\.)+\p{L}{2,24})",
        _email, gate=_Gate.SIGNS),
    _Pattern(
        Kind.EMAIL,
        r"(?:^|[^\p{L}\p{N}._%+-])([\p{L}\p{N}][\p{L}\p{N}._%+'-]* @ (?:[\p{L}\p{N}][\p{L}\p{N}-]*\.)+\p{L}{2,24})",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.EMAIL,
        r"(?i)(?:^|[^\p{L}\p{N}._%+-])([\p{L}\p{N}][\p{L}\p{N}._+'-]* ?[\[(] ?(?:at|arobase|chez) ?[\])] ?"
        r"[\p{L}\p{N}-]+(?: ?(?:\.|[\[(] ?(?:dot|point) ?[\])]) ?[\p{L}\p{N}-]{2,})+)",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(Kind.IBAN, r"(?:^|[^\p{L}\p{N}_]|(?i:iban))([A-Za-z]{2}\d{2}(?:[ \-\x{A0}\x{202F}]?[A-Za-z0-9]){11,30})", _iban),
    _Pattern(
        Kind.NIR,
        _BEFORE + rf"([1278]{_SEP}?\d{{2}}{_SEP}?\d{{2}}{_SEP}?(?:\d{{2}}|2[ABab]){_SEP}?\d{{3}}{_SEP}?\d{{3}}"
        rf"{_SEP}{{0,3}}\d{{2}})",
        _nir,
    ),
    _Pattern(
        Kind.NIR,
        _BEFORE + rf"(?i:nir|insee|s[ée]cu(?:rit[ée] sociale)?|social security){_NAMED}"
        rf"([1278]{_SEP}?\d{{2}}{_SEP}?\d{{2}}{_SEP}?(?:\d{{2}}|2[ABab]){_SEP}?\d{{3}}{_SEP}?\d{{3}})", gate=_Gate.NAMED),
    _Pattern(
        Kind.SIREN,
        _BEFORE + rf"(?i:siren|rcs(?: [\p{{L}}-]{{2,30}})?|tva(?: intra(?:communautaire)?)?|vat){_NAMED}(\d{{3}}{_SEP}?\d{{3}}{_SEP}?\d{{3}})",
        _siren, gate=_Gate.NAMED),
    _Pattern(Kind.SIREN, _BEFORE + rf"((?i:FR){_SEP}?\d{{2}}{_SEP}?\d{{3}}{_SEP}?\d{{3}}{_SEP}?\d{{3}})", _vat),
    _Pattern(
        Kind.SSN,
        _BEFORE + rf"(?i:ssn|social security){_NAMED}(\d{{3}}[ -]?\d{{2}}[ -]?\d{{4}})", gate=_Gate.NAMED),
    _Pattern(Kind.NHS, _BEFORE + rf"(?i:nhs){_NAMED}(\d{{3}}[ -]?\d{{3}}[ -]?\d{{4}})", gate=_Gate.NAMED),
    _Pattern(
        Kind.NINO,
        _BEFORE + rf"(?i:nino|national insurance|ni){_NAMED}((?i:[A-Z]{{2}}{_SPACE}?\d{{2}}{_SPACE}?\d{{2}}{_SPACE}?\d{{2}}{_SPACE}?[A-D]))",
        gate=_Gate.NAMED),
    _Pattern(Kind.PASSPORT, _BEFORE + rf"(?i:passe?ports?){_NAMED}([A-Z0-9]{{8,9}})", _passport, gate=_Gate.NAMED),
    _Pattern(Kind.PASSPORT, _BEFORE + f"({_MRZ})", _as_it_is, gate=_Gate.PEM),
    _Pattern(
        Kind.BIRTH_DATE,
        _BEFORE + rf"(?i:born|birth(?:day|date|[ _-]date)?|date of birth|d\.?o\.?b\.?|n[ée]e?|naissance|anniversaire){_NAMED}({_DATE})",
        gate=_Gate.BIRTH),
    _Pattern(Kind.ADDRESS, _BEFORE_NUMBER + f"({_STREET_FR}|{_STREET_EN})", _address, gate=_Gate.STREETS),
    _Pattern(Kind.ADDRESS, _BEFORE + f"({_BOX}|{_POSTCODE_UK})", _address, gate=_Gate.STREETS),
    _Pattern(
        Kind.PHONE,
        _BEFORE_NUMBER + rf"((?:(?:\+|\(\+|00)33\)?{_SEP}{{0,2}}(?:\(0\){_SEP}?|0)?|0)[1-9](?:{_SEP}?\d{{2}}){{4}})",
        _phone,
    ),
    _Pattern(
        Kind.PHONE,
        _BEFORE_NUMBER + rf"(\(?0(?:1\d{{2,4}}|2\d|3\d{{2}}|7\d{{3}}|8\d{{2}})\)?{_SEP}?\d{{3,4}}{_SEP}?\d{{3,4}})",
        _international,
    ),
    _Pattern(Kind.PHONE, _BEFORE_NUMBER + rf"(0[1-9]\d{{2}}{_SEP}\d{{3}}{_SEP}\d{{3}})", _phone),
    _Pattern(
        Kind.PHONE,
        _BEFORE_NUMBER + r"((?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .\-])[2-9]\d{2}[ .\-]\d{4})",
        _american,
    ),
    _Pattern(
        Kind.PHONE, _BEFORE_NUMBER + r"(00[1-9]\d{0,2}(?:[ .\-/()\x{A0}\x{202F}]{0,3}\d){7,12})", _international),
    _Pattern(Kind.PHONE, r"(?:^|[^\p{L}\p{N}_+])((?:\+|\(\+)[1-9]\d{0,2}\)?(?:[ .\-/()\x{A0}\x{202F}]{0,3}\d){6,12})", _international),
    _Pattern(Kind.SSN, _BEFORE_NUMBER + r"((?:00[1-9]|0[1-9]\d|[1-578]\d{2}|6[0-57-9]\d|66[0-57-9])-\d{2}-\d{4})"),
    _Pattern(
        Kind.NINO,
        _BEFORE + rf"([A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]{_SPACE}?\d{{2}}{_SPACE}?\d{{2}}{_SPACE}?\d{{2}}{_SPACE}?[A-D])",
    ),
    _Pattern(Kind.IP, r"(?:^|[^\p{L}\p{N}_.:]|[^\p{N}:]:)(\d{1,3}(?:\.\d{1,3}){3})", _ip, gate=_Gate.NETWORK),
    _Pattern(Kind.IP, r"(?:^|[^\p{L}\p{N}_])(?i:ip)-(\d{1,3}(?:-\d{1,3}){3})", _ip),
    _Pattern(
        Kind.MAC,
        _BEFORE + r"([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2})",
        _mac, gate=_Gate.NETWORK),
    _Pattern(
        Kind.IP, r"(?:^|[^\p{L}\p{N}_.:])(::(?i:ffff):\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4})?(?::[0-9A-Fa-f]{0,4}){2,7})", _ip, gate=_Gate.NETWORK),
)  # fmt: skip
_RUN = r"(\d(?:[ .\-\x{A0}\x{202F}\x{2009}]?\d){12,})"
"""Digits that may hold the number of a card, a person or an establishment."""
_GROUP = re.compile(rb"[0-9]+")
_MEMORY = 64 << 20


class PatternFinder:
    """Finds what the patterns describe. ``name`` is part of the profile's name."""

    name = "patterns/2"

    def __init__(self, memory: int = _MEMORY) -> None:
        """``memory``: what RE2 may use for its automata, at most, bytes."""
        options = re2.Options()
        options.log_errors = False
        options.max_mem = memory
        self._patterns = tuple(
            (pattern, re2.compile(pattern.source.encode(), options)) for pattern in _PATTERNS
        )
        self._gates = {gate: re2.compile(gate.value.encode(), options) for gate in _Gate}
        self._run = re2.compile(_RUN.encode(), options)

    def find(self, text: bytes) -> Iterator[Found]:
        """Yield what is found in *text*, which is UTF-8, in no order; stretches may overlap."""
        is_open = {gate: compiled.search(text) is not None for gate, compiled in self._gates.items()}
        for pattern, compiled in self._patterns:
            if is_open[pattern.gate]:
                yield from self._of_pattern(text, pattern, compiled)
        if is_open[_Gate.DIGITS]:
            yield from self._in_runs(text)

    def _of_pattern(self, text: bytes, pattern: _Pattern, compiled: Any) -> Iterator[Found]:
        at = 0
        while (match := compiled.search(text, at)) is not None:
            start, end = match.span(match.lastindex or 1)
            found = pattern.check(text, start, end)
            if found is None:
                at = start + 1
            else:
                yield Found(*found, pattern.kind)
                at = max(found[1], at + 1)

    def _in_runs(self, text: bytes) -> Iterator[Found]:
        """Look into each run for groups of digits that are a number together: its neighbours may be others."""
        for match in self._run.finditer(text):
            start, end = match.span(1)
            run = text[start:end]
            groups = [match.span() for match in _GROUP.finditer(run)]
            if not _ends_word(text, end):
                del groups[-1:]
            is_named = b"siret" in text[max(0, start - _NEAR) : start].lower()
            for first in range(len(groups)):
                # Each place anew: a number that only happens to be one must not hide the end of another.
                if (found := _number(run, groups, first, is_named=is_named)) is not None:
                    last, kind = found
                    yield Found(start + groups[first][0], start + groups[last][1], kind)


def _number(
    run: bytes, groups: list[tuple[int, int]], first: int, *, is_named: bool
) -> tuple[int, Kind] | None:
    """Return the last group, and the kind, of the longest number that begins with group *first*."""
    length, found = 0, None
    head = groups[first]
    is_decimal = head[1] - head[0] >= _LEAST_DIGITS and run[head[0] - 1 : head[0]] == b"."
    for last in range(first, min(first + _MOST_IN_A_NUMBER, len(groups))):
        length += groups[last][1] - groups[last][0]
        if length > _MOST_DIGITS:
            break
        is_fraction = is_decimal or (
            last == first + 1 and run[groups[first][1] : groups[last][0]] in {b".", b","}
        )
        if length >= _LEAST_DIGITS and not is_fraction:
            number = [run[start:end].decode() for start, end in groups[first : last + 1]]
            if (kind := _kind(number, is_named=is_named)) is not None:
                found = last, kind
    return found


_DINERS_GROUPS = 3
_MOST_GROUPS = 5
"""Of a card; what has more is a table."""
_SIRET_GROUPS = frozenset(((14,), (9, 5), (3, 3, 3, 5), (3, 3, 3, 2, 3), (3, 3, 3, 3, 2), (2, 3, 3, 3, 3)))
"""How an establishment's number is written, where it is not named so."""
_NEAR = 32
_MOMENT = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d")
"""A date and a time, as names of files have them."""


def _kind(groups: list[str], *, is_named: bool) -> Kind | None:
    digits = "".join(groups)
    if is_nir(digits):
        return Kind.NIR
    is_number_of_card = is_card(digits) and len(groups) <= _MOST_GROUPS
    if (
        is_siret(digits)
        and (is_named or (tuple(map(len, groups)) in _SIRET_GROUPS and not _MOMENT.fullmatch(digits)))
        and not (is_number_of_card and len(groups) == _DINERS_GROUPS)
    ):
        return Kind.SIRET
    return Kind.CARD if is_number_of_card else None
