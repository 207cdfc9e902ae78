"""What looks like personal data or a secret, and how is it told from what only looks like it?

1. Patterns are RE2's: the time is linear in the text, whatever the text. What a pattern finds is a candidate; a
   checksum or a rule decides. Of a candidate that fails, nothing is skipped but its first character.
2. A pattern is looked for only in a text that passes its gate: that has some digits, a sign, a word, as each find has.
3. In doubt it is found: a word too many that is taken out costs less than a number that stays.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import re2

from chatproxy.datasets.checksums import iban_length, is_card, is_iban, is_nir, is_siren, is_siret


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
    SIRET = "SIRET"
    SIREN = "SIREN"
    IP = "IP"
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


def _siren(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    value = bytes(char for char in text[start:end] if char in _DIGITS).decode()
    return (start, end) if is_siren(value) and _ends_word(text, end) else None


def _phone(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    return (start, end) if _ends_word(text, end) else None


_SHORTEST_PHONE, _LONGEST_PHONE = 8, 15


def _international(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take a number that begins with its country; what follows after a space may be another number."""
    while sum(char in _DIGITS for char in text[start:end]) >= _SHORTEST_PHONE:
        digits = sum(char in _DIGITS for char in text[start:end])
        if digits <= _LONGEST_PHONE and _ends_word(text, end):
            return start, end
        end = _before_last_group(text, start, end)
    return None


def _before_last_group(text: bytes, start: int, end: int) -> int:
    while end > start and text[end - 1] in _DIGITS:
        end -= 1
    while end > start and text[end - 1] not in _DIGITS:
        end -= 1
    return end


def _ip(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take an address that may be somebody's: not this machine's own, nor a mask, nor nobody's."""
    value = text[start:end].decode()
    follows = text[end : end + 2]
    if not _ends_word(text, end) or (follows[:1] == b"." and follows[1:2].isdigit()) or follows[:1] == b":":
        return None
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    if address.version == 6:  # noqa: PLR2004 - names of programs, such as a::b, are none
        groups = [group for group in value.split(":") if group]
        if len(groups) < 3 or not any(char.isdigit() for char in value):  # noqa: PLR2004
            return None
    is_nobodys = address.is_loopback or address.is_unspecified or address.is_multicast
    return None if is_nobodys or value.startswith("255.") else (start, end)


_PLACEHOLDERS = (b"$", b"{", b"<", b"%", b"os.", b"env", b"process.", b"self.", b"config", b"settings", b"[")
_LEAST_SECRET = 6


def _secret(text: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Take a value that a person or a generator made: not a word of a program, nor a place that is to be filled in."""
    end = start + len(text[start:end].rstrip(b".,;:)"))
    value = text[start:end]
    if len(value) < _LEAST_SECRET or value.lower().startswith(_PLACEHOLDERS) or b"(" in value:
        return None
    has_digit = any(char in _DIGITS for char in value)
    has_sign = any(char not in _LETTER_OR_DIGIT and char not in b".-" for char in value)
    return (start, end) if has_digit or has_sign else None


class _Gate(StrEnum):
    """What every text has that a pattern can find something in: a pattern that is quick to look for."""

    DIGITS = r"\d(?:[^\d\n]{0,6}\d){5}"
    """The shortest number is that of a person in Britain: six digits."""
    KEYS = (
        r"(?i)private key|eyj|sk-|[spr]k_|akia|asia|gh[pousr]_|github_pat|glpat|xox|aiza|ya29|hf_|sg\.|npm_|pypi-|dop_v1"
        r"|shp|hv[sbr]\.|age-secret"
    )
    WORDS = r"(?i)pass|pwd|mdp|secret|key|cl[ée]|token|jeton|bearer|basic"
    SIGNS = r"(?i)@|%40|://|=|[\[(] ?(?:at|arobase|chez)"
    NETWORK = r"\d\.\d|[0-9A-Fa-f:]:[0-9A-Fa-f:]"


@dataclass(frozen=True, slots=True)
class _Pattern:
    kind: Kind
    source: str
    check: Check = _whole_word
    gate: "_Gate" = _Gate.DIGITS


_KEY_FORMS = (
    r"sk-[A-Za-z0-9_-]{16,}|[spr]k_(?:live|test)_[A-Za-z0-9]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,64}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|hf_[A-Za-z0-9]{30,64}"
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}"
    r"|dop_v1_[a-f0-9]{64}|shp(?:at|ss|ca|pa)_[a-fA-F0-9]{32}|hv[sbr]\.[A-Za-z0-9_-]{24,}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{58}"
)
_NAMES_OF_SECRETS = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|mot de passe|mdp|secret|code secret|api[ _-]?key|cl[ée] api"
    r"|access[ _-]?key(?:[ _-]?id)?|(?:auth|access|refresh|bearer|id)?[ _-]?token|jeton|client[ _-]?secret"
    r"|[a-z0-9_]{0,40}(?:secret|password|token|api_key|access_key))"
)
_PATTERNS = (
    _Pattern(
        Kind.PRIVATE_KEY,
        r"(?s)(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z))",
        _as_it_is, gate=_Gate.KEYS),
    _Pattern(
        Kind.JWT,
        _BEFORE + r"(eyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*)",
        _as_it_is, gate=_Gate.KEYS),
    _Pattern(Kind.API_KEY, _BEFORE + f"({_KEY_FORMS})", _as_it_is, gate=_Gate.KEYS),
    _Pattern(
        Kind.API_KEY, r"(?i)\b(?:bearer|basic|token)\s{1,4}([A-Za-z0-9._~+/-]{20,200}={0,2})", _secret, gate=_Gate.WORDS),
    _Pattern(Kind.URL_CREDENTIALS, r"[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s/?#@:]*:[^\s/?#@]+)@", _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.URL_CREDENTIALS,
        r"(?i)[?&;](?:access_token|api_?key|auth|code|key|pass(?:word)?|pwd|secret|session(?:id)?|sig(?:nature)?|token"
        r"|x-amz-(?:signature|security-token|credential))=([^\s&#\"'<>]{4,})",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.SECRET,
        _BEFORE + r"(?i:" + _NAMES_OF_SECRETS + r")[\"']?\s{0,3}(?:[:=]|=>|:=|\bis\b|\best\b)\s{0,3}[\"'`]?"
        r"([^\s\"'`<>,]{6,100})",
        _secret, gate=_Gate.WORDS),
    _Pattern(
        Kind.EMAIL,
        r"(?:^|[^\p{L}\p{N}._%+-])([\p{L}\p{N}][\p{L}\p{N}._%+'-]*(?:@|%40)"
        r"(?:[\p{L}\p{N}][\p{L}\p{N}-]*\.)+\p{L}{2,24})",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(
        Kind.EMAIL,
        r"(?i)(?:^|[^\p{L}\p{N}._%+-])([\p{L}\p{N}][\p{L}\p{N}._+'-]* ?[\[(] ?(?:at|arobase|chez) ?[\])] ?"
        r"[\p{L}\p{N}-]+(?: ?(?:\.|[\[(] ?(?:dot|point) ?[\])]) ?[\p{L}\p{N}-]{2,})+)",
        _as_it_is, gate=_Gate.SIGNS),
    _Pattern(Kind.IBAN, _BEFORE + r"([A-Za-z]{2}\d{2}(?:[ \-\x{A0}\x{202F}]?[A-Za-z0-9]){11,30})", _iban),
    _Pattern(
        Kind.NIR,
        _BEFORE + rf"([1278]{_SEP}?\d{{2}}{_SEP}?\d{{2}}{_SEP}?(?:\d{{2}}|2[ABab]){_SEP}?\d{{3}}{_SEP}?\d{{3}}"
        rf"{_SEP}?\d{{2}})",
        _nir,
    ),
    _Pattern(
        Kind.SIREN,
        _BEFORE + rf"(?i:siren|rcs(?: [\p{{L}}-]{{2,30}})?){_SPACE}{{0,2}}(?:n°|no|:|number|num[ée]ro)?{_SPACE}{{0,2}}:?"
        rf"{_SPACE}{{0,2}}(\d{{3}}{_SEP}?\d{{3}}{_SEP}?\d{{3}})",
        _siren,
    ),
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
    _Pattern(
        Kind.PHONE,
        _BEFORE_NUMBER + r"((?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .\-])[2-9]\d{2}[ .\-]\d{4})",
        _phone,
    ),
    _Pattern(Kind.PHONE, r"(?:^|[^\p{L}\p{N}_+])((?:\+|\(\+)[1-9]\d{0,2}\)?(?:[ .\-/()\x{A0}\x{202F}]{0,2}\d){6,12})", _international),
    _Pattern(Kind.SSN, _BEFORE_NUMBER + r"((?:00[1-9]|0[1-9]\d|[1-578]\d{2}|6[0-57-9]\d|66[0-57-9])-\d{2}-\d{4})"),
    _Pattern(
        Kind.NINO,
        _BEFORE + rf"([A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]{_SPACE}?\d{{2}}{_SPACE}?\d{{2}}{_SPACE}?\d{{2}}{_SPACE}?[A-D])",
    ),
    _Pattern(Kind.IP, r"(?:^|[^\p{L}\p{N}_.:])(\d{1,3}(?:\.\d{1,3}){3})", _ip, gate=_Gate.NETWORK),
    _Pattern(
        Kind.IP, r"(?:^|[^\p{L}\p{N}_.:])((?:[0-9A-Fa-f]{1,4})?(?::[0-9A-Fa-f]{0,4}){2,7})", _ip, gate=_Gate.NETWORK),
)  # fmt: skip
_RUN = r"(\d(?:[ .\-\x{A0}\x{202F}\x{2009}]?\d){12,})"
"""Digits that may hold the number of a card, a person or an establishment."""
_GROUP = re.compile(rb"[0-9]+")
_MEMORY = 64 << 20


class PatternFinder:
    """Finds what the patterns describe. ``name`` is part of the profile's name."""

    name = "patterns/1"

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
            start, end = match.span(1)
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
            for first in range(len(groups)):
                # Each place anew: a number that only happens to be one must not hide the end of another.
                if (found := _number(run, groups, first)) is not None:
                    last, kind = found
                    yield Found(start + groups[first][0], start + groups[last][1], kind)


def _number(run: bytes, groups: list[tuple[int, int]], first: int) -> tuple[int, Kind] | None:
    """Return the last group, and the kind, of the longest number that begins with group *first*."""
    length, found = 0, None
    for last in range(first, min(first + _MOST_IN_A_NUMBER, len(groups))):
        length += groups[last][1] - groups[last][0]
        if length > _MOST_DIGITS:
            break
        is_fraction = last == first + 1 and run[groups[first][1] : groups[last][0]] in {b".", b","}
        if length >= _LEAST_DIGITS and not is_fraction:
            digits = b"".join(run[start:end] for start, end in groups[first : last + 1]).decode()
            if (kind := _kind(digits, last - first + 1)) is not None:
                found = last, kind
    return found


_DINERS_GROUPS = 3


def _kind(digits: str, groups: int) -> Kind | None:
    if is_nir(digits):
        return Kind.NIR
    if is_siret(digits) and not (is_card(digits) and groups == _DINERS_GROUPS):
        return Kind.SIRET
    return Kind.CARD if is_card(digits) else None
