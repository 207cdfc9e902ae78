"""What is taken out of a text, and what stays."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import re2

from chatproxy.datasets.patterns import Found, Kind, PatternFinder
from chatproxy.datasets.redaction import Redactor, apart
from simulators import published_forms
from simulators.personal_data import Labelled, corpus

ONLY_PUBLISHED = {"ADDRESS", "BIRTH_DATE", "MAC", "NHS", "PASSPORT"}
"""Kinds that the first corpus does not have."""


def redactor() -> Redactor:
    return Redactor()


def redacted(text: str) -> str:
    return redactor().text(text, Counter())


@pytest.mark.parametrize(
    "text, left",
    [
        ("jean.dupont@exemple.fr,paul@x.co.uk", "[EMAIL],[EMAIL]"),
        ("zoé@société.example et a%40b.fr", "[EMAIL] et [EMAIL]"),
        ("jean [at] exemple [point] fr", "[EMAIL]"),
        ("06 12 34 56 78/0612345678", "[PHONE]/[PHONE]"),
        ("06\u202f12\u202f34\u202f56\u202f78", "[PHONE]"),
        ("+33 (0)1 42 68 53 00", "[PHONE]"),
        ("+1 415-555-0132 (415) 555-0132", "[PHONE] [PHONE]"),
        ("+44 20 7946 0958 2024", "[PHONE] 2024"),
        ("FR1420041010050500013M02606 FR7630006000011234567890189 ok", "[IBAN] [IBAN] ok"),
        ("fr14 2004 1010 0505 0001 3m02 606 et", "[IBAN] et"),
        ("FR14 2004 1010 0505 0001 3M02 607", "FR14 2004 1010 0505 0001 3M02 607"),
        ("FR1420041010050500013M02606X", "FR1420041010050500013M02606X"),
        ("pi is 3.40177338779148", "pi is 3.40177338779148"),
        ("4111-1111-1111-1111", "[CARD]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("4111111111111111 12 et 12 378282246310005", "[CARD] 12 et 12 [CARD]"),
        ("1 85 05 78 006 084 91 et 185052A00608457", "[NIR] et 185052A00608457"),
        ("2 90 02 2A 123 456 78", "[NIR]"),
        ("732 829 320 00074", "[SIRET]"),
        ("35600000000048 35600000049837", "[SIRET] [SIRET]"),
        ("RCS Paris 732 829 320, 732 829 320", "RCS Paris [SIREN], 732 829 320"),
        ("219-09-9999 and AB 12 34 56 C", "[SSN] and [NINO]"),
        ("8.8.8.8", "[IP]"),
        ("8.8.8.8 v1.2.3.4.5 127.0.0.1 255.255.255.0 999.1.1.1", "[IP] v1.2.3.4.5 127.0.0.1 255.255.255.0 999.1.1.1"),
        ("2001:db8::8a2e:370:7334 std::dec 12:30:45 a::b", "[IP] std::dec 12:30:45 a::b"),
        ("https://user:pa55@host/x?a=1&token=abcd1234#t", "https://[URL_CREDENTIALS]@host/x?a=1&token=[SECRET]"),
        ("AKIAIOSFODNN7EXAMPLE sk-proj-abcdefghij0123456789", "[API_KEY] [API_KEY]"),
        ("Authorization: Bearer abcdefghijklmnop0123456789", "Authorization: Bearer [API_KEY]"),
        ("my password is hunter2! ok; mot de passe : Soleil2024!", "my password is [SECRET] ok; mot de passe : [SECRET]"),
        ('{"client_secret": "a1b2c3d4"}', '{"client_secret": "[SECRET]"}'),
        ("password = os.environ['X'] token: str", "password = os.environ['X'] token: str"),
        ("a-----BEGIN EC PRIVATE KEY-----\nMI\n-----END EC PRIVATE KEY-----b", "a[PRIVATE_KEY]b"),
        ("a-----BEGIN PRIVATE KEY-----\nMIIE cut", "a[PRIVATE_KEY]"),
        ("eyJhbGciOi.eyJzdWIiOi.dozjg_x z", "[JWT] z"),
        ("fe80::1 ::ffff:8.8.4.4 ip:8.8.8.8 8.8.8.8:443", "fe80::1 [IP] ip:[IP] [IP]:443"),
        ("see section 7.7.7.4, version 10.0.1.2", "see section 7.7.7.4, version 10.0.1.2"),
        ("00:1b:44:11:3a:b7 001B.4411.3AB7 AB:CD:EF:01:23:45:67 12:30:45", "[MAC] [MAC] AB:CD:EF:01:23:45:67 12:30:45"),
        ("N° TVA FR 40 303 265 045, FR41303265045 FR42303265045", "N° TVA [SIREN], FR41303265045 FR42303265045"),
        ("my SSN is 219 09 9999, 219099999", "my SSN is [SSN], 219099999"),
        ("nino: ab123456c, ab123456c", "nino: [NINO], ab123456c"),
        ("NHS number 943 476 5919", "NHS number [NHS]"),
        ("sécurité sociale : 1 85 05 78 006 084 et 185057800608491", "sécurité sociale : [NIR] et [NIR]"),
        ("1850578006084 / 91", "[NIR]"),
        ("passeport n° 12AB34567, passport REQUIRED", "passeport n° [PASSPORT], passport REQUIRED"),
        ("née le 3 mars 1985 à Lyon; born on 1985-03-12; né en 1985", "née le [BIRTH_DATE] à Lyon; born on [BIRTH_DATE]; né en 1985"),
        ("au 12 bis, rue des Lilas, 75011 Paris. 3 places", "au [ADDRESS]. 3 places"),
        ("12 rue Voltaire\nMerci", "[ADDRESS]\nMerci"),
        ("Flat 2, 10 High Street, London SW1A 2AA\n\nCVE-2020", "[ADDRESS]\n\nCVE-2020"),
        ("logo@2x.png, ana @ free.fr", "logo@2x.png, [EMAIL]"),
        ("00221 77 123 45 67 / +49 (0)30 / 4420605", "[PHONE] / [PHONE]"),
        ("1 1 2 3 5 610 987 1597 2584 4181", "1 1 2 3 5 610 987 1597 2584 4181"),
        ("31 34 19 67 85 24 51 50", "31 34 19 67 85 24 51 50"),
        ("backup-20260310123001.tar", "backup-20260310123001.tar"),
        ("0.5259487224327177", "0.5259487224327177"),
        ('"password": null, "secret": false}', '"password": null, "secret": false}'),
        ("PASSWORD=******** password: $DB_PASSWORD", "PASSWORD=******** password: $DB_PASSWORD"),
        ("password: 'a,b<c1>d' <password>azerty12</password> 4027105089", "password: '[SECRET]' <password>[SECRET]</password> 4027105089"),
        ("use `Soleil19` as the password; mdp : cheval-agrafe-pile-juste", "use `[SECRET]` as the password; mdp : [SECRET]"),
        ("acme_live-Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4e sha256-Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4e", "[API_KEY] sha256-Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4e"),
        ("https://a.fr/x;jsessionid=0CE5BE36EC592C1D", "https://a.fr/x;jsessionid=[URL_CREDENTIALS]"),
        ("2026-11-23 06:30:00 order 1234567890 pi 3.14159265358979", "2026-11-23 06:30:00 order 1234567890 pi 3.14159265358979"),
    ],
)  # fmt: skip
def test_what_is_taken_out_and_what_stays(text: str, left: str) -> None:
    assert redacted(text) == left


@dataclass
class Measured:
    """What the patterns make of a corpus."""

    planted: Counter[str]
    missed: list[tuple[str, bytes]]
    needless: int

    @classmethod
    def of(cls, texts: Iterable[Labelled]) -> "Measured":
        finder, measured = PatternFinder(), cls(Counter(), [], 0)
        for each in texts:
            text = each.text.encode()
            found = list(apart(sorted(finder.find(text), key=lambda find: (find.start, -find.end))))
            for start, end, kind in each.spans:
                measured.planted[kind] += 1
                if not any(find.start <= start and end <= find.end for find in found):
                    measured.missed.append((kind, text[start:end]))
            measured.needless += sum(
                not any(f.start < end and start < f.end for start, end, _ in each.spans) for f in found
            )
        return measured


def test_every_planted_form_of_the_corpus_is_covered() -> None:
    measured = Measured.of(corpus(1500, seed=7))
    assert set(measured.planted) == {str(kind) for kind in Kind} - ONLY_PUBLISHED
    assert len(measured.missed) <= 3, measured.missed
    assert measured.needless <= 60


@pytest.mark.parametrize("half, needless_at_most", [("open", 60), ("held", 2)])
def test_what_was_written_apart_from_the_patterns_is_covered(half: str, needless_at_most: int) -> None:
    measured = Measured.of(published_forms.corpus(1500, seed=7, half=half))
    assert set(measured.planted) == {str(kind) for kind in Kind}
    assert len(measured.missed) <= 8, measured.missed
    assert measured.needless <= needless_at_most


def test_every_pattern_runs_on_the_linear_engine() -> None:
    finder = PatternFinder()
    assert finder._patterns
    assert {type(compiled) for _, compiled in finder._patterns} == {re2._Regexp}


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 60_000, "FR76 " * 20_000, "password=" * 20_000, "a@" * 60_000, "://:" * 30_000, "AB12-" * 40_000, "aA1_" * 40_000,
        "12 rue Aa" * 20_000, "00:" * 40_000, "00221 " * 30_000, "Flat 2, 10 High St " * 9000, "a-b" + "cD3" * 60_000,
        "SW1A 2AA " * 20_000,
    ],
)  # fmt: skip
def test_a_hostile_text_comes_to_an_end(text: str) -> None:
    assert redacted(text)


def test_what_is_found_is_counted_by_kind() -> None:
    counts: Counter[str] = Counter()
    redactor().text("a@b.fr c@d.fr 8.8.8.8", counts)
    assert counts == {"EMAIL": 2, "IP": 1}


def test_nothing_hides_behind_the_escapes_of_json() -> None:
    text = r'{"to":"ana\u0040b.fr","ana@b.fr":[4111111111111111,true,null,1.5],"password":"azerty12","n":{"a":"\u0030612345678"}}'
    assert json.loads(redactor().json_text(text, Counter())) == {
        "to": "[EMAIL]",
        "[EMAIL]": ["[CARD]", True, None, 1.5],
        "password": "[SECRET]",
        "n": {"a": "[PHONE]"},
    }


@pytest.mark.parametrize(
    "text, left",
    [
        ('{"to":"ana@b.fr', '{"to":"[EMAIL]'),
        ('"ana@b.fr"', '"[EMAIL]"'),
        ("4111111111111111", "[CARD]"),
        ("x", "x"),
    ],
    ids=["cut", "string", "number", "word"],
)
def test_what_is_no_object_is_text(text: str, left: str) -> None:
    assert redactor().json_text(text, Counter()) == left


def test_what_is_nested_too_deeply_goes_as_a_whole() -> None:
    text = "[" * 400 + '"ana@b.fr"' + "]" * 400
    assert "ana" not in redactor().json_text(text, Counter())


def test_a_lone_surrogate_is_not_carried_on() -> None:
    assert redacted("a\ud800b") == "a?b"


class Names:
    name = "names/1"

    def find(self, text: bytes) -> Iterable[Found]:
        at = text.find(b"Ana")
        return [Found(at, at + 7, Kind.SECRET)] if at >= 0 else []


def test_another_engine_adds_its_finds_and_its_name() -> None:
    with_names = Redactor([Names()])
    assert with_names.text("Ana a@b.fr", Counter()) == "[SECRET].fr" or "Ana" not in with_names.text(
        "Ana a@b.fr", Counter()
    )
    assert with_names.profile == "standard (patterns/2, names/1)"
    assert redactor().profile == "standard (patterns/2)"
