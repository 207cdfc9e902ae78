"""Who has which token or certificate, as the settings say it."""

import pytest

from chatproxy.identities.operators import Operator, Operators, Role, parse_certificates, parse_tokens

SECRET = "sixteen-or-more-1"
OTHER = "sixteen-or-more-2"
EVERY_ROLE = frozenset(Role)


def operators(text: str) -> Operators:
    return Operators(parse_tokens(text))


def asks(found: Operators, token: str) -> Operator | None:
    return found.by_authorization(f"Bearer {token}")


def test_a_token_alone_is_the_companys_and_has_every_role() -> None:
    assert asks(operators(SECRET), SECRET) == Operator("company", EVERY_ROLE)


def test_a_named_token_has_its_roles_and_no_other() -> None:
    found = operators(f"signup(privacy)={SECRET}\npager(ops+security)={OTHER}")
    assert asks(found, SECRET) == Operator("signup", frozenset({Role.PRIVACY}))
    assert asks(found, OTHER) == Operator("pager", frozenset({Role.OPS, Role.SECURITY}))


def test_what_a_secret_looks_like_does_not_matter() -> None:
    secret = "a=b(c)=d+e:f@g/h=="
    assert asks(operators(secret), secret) == Operator("company", EVERY_ROLE)
    assert asks(operators(f"x(data)={secret}"), secret) == Operator("x", frozenset({Role.DATA}))


def test_a_name_may_have_two_tokens_while_one_is_changed() -> None:
    found = operators(f"signup(privacy)={SECRET},signup(privacy)={OTHER}")
    assert asks(found, SECRET) == asks(found, OTHER) is not None


@pytest.mark.parametrize(
    "value",
    ["", SECRET, "Bearer", "Bearer ", f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", f"Basic {SECRET}",
     f"Bearer {SECRET},{OTHER}", "Bearer \xe9", f"Bearer signup(privacy)={SECRET}"],
)  # fmt: skip
def test_anything_else_is_nobodys(value: str) -> None:
    assert operators(f"signup(privacy)={SECRET}").by_authorization(value) is None


@pytest.mark.parametrize("count", [1, 3])
def test_with_no_token_nobody_is_known(count: int) -> None:
    assert not Operators().is_anybody_known
    assert Operators().by_authorization("Bearer " * count) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="none"),
        pytest.param("short", id="too short"),
        pytest.param("signup(privacy)=short", id="a named one too short"),
        pytest.param(f"{SECRET}\xe9", id="not ASCII"),
        pytest.param(f"signup(boss)={SECRET}", id="a role that is none"),
        pytest.param(f"company(ops)={SECRET}", id="the name of those without one"),
        pytest.param(f"{SECRET},{SECRET}", id="one secret twice"),
        pytest.param(f"a(ops)={SECRET},b(data)={SECRET}", id="one secret of two people"),
        pytest.param(f"a(ops)={SECRET},a(data)={OTHER}", id="one name with two meanings"),
        pytest.param(f"{SECRET},{OTHER},{SECRET}3", id="three without a name"),
        pytest.param(",".join(f"n{n}(ops)={SECRET}{n}" for n in range(65)), id="too many"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|names somebody") as refused:
        parse_tokens(text)
    assert SECRET not in str(refused.value)


def test_a_token_shows_in_no_repr_and_no_text() -> None:
    tokens = parse_tokens(f"signup(privacy)={SECRET}")
    assert SECRET not in repr(tokens)
    assert str(tokens[0]) == "signup(privacy)=(hidden)"


CLIENTS = parse_certificates("pager(ops)=pager.internal, keys(security)=spiffe://chat/keys")


@pytest.mark.parametrize(
    "names, expected",
    [
        ([("DNS", "pager.internal")], "pager"),
        ([("URI", "spiffe://chat/keys")], "keys"),
        ([("DNS", "other.internal"), ("DNS", "pager.internal")], "pager"),
        ([("email", "pager.internal")], None),
        ([("DNS", "PAGER.internal")], None),
        ([("DNS", "x.pager.internal")], None),
        ([("DNS", "pager.internal"), ("URI", "spiffe://chat/keys")], None),
        ([], None),
    ],
    ids=str,
)
def test_a_certificate_is_whose_name_it_is_made_out_to(
    names: list[tuple[str, str]], expected: str | None
) -> None:
    found = Operators((), CLIENTS).by_certificate({"subjectAltName": tuple(names)})
    assert (found and found.name) == expected


def test_no_certificate_is_nobodys() -> None:
    assert Operators((), CLIENTS).by_certificate(None) is None
    assert Operators((), CLIENTS).by_certificate({"subject": ((("commonName", "pager.internal"),),)}) is None


@pytest.mark.parametrize(
    "text", ["", "pager.internal", "a(ops)=x,b(ops)=x", "a(boss)=x", "a(ops)=x,a(data)=y"]
)
def test_certificates_that_cannot_be_told_apart_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|names somebody"):
        parse_certificates(text)
