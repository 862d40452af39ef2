"""Tokens: what RFC 8725 warns of, one line each, is refused; a good token tells its claims."""

import base64
import hashlib
import hmac
import json
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.tokens import KNOWN_MAX, LEEWAY_SECONDS, SERVICE, STAFF, TokenRefused, Tokens

KEY = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
OTHER_KEY = "another-secret-of-the-tests-that-is-long-enough-too"
STAFF_HEADER = {"alg": "HS256", "typ": "at+jwt"}


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(private_key: str) -> bytes:
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changed: Any) -> dict[str, Any]:
    """Good ones, changed; None takes a claim away."""
    now = int(time.time())
    good = {"iss": "leads", "aud": "leads-staff", "sub": "ann@example.com", "iat": now, "exp": now + 60}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def forged(body: Any, header: dict[str, Any] | None = None, key: bytes = KEY.encode()) -> str:
    """Signed by hand: whatever it says, its HMAC is right. A string as body stands in the token as it is."""
    text = body if isinstance(body, str) else json.dumps(body)
    signed = f"{_encoded(json.dumps(header or STAFF_HEADER).encode())}.{_encoded(text.encode())}"
    return f"{signed}.{_encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def refused(token: str, tokens: Tokens | None = None) -> str:
    with pytest.raises(TokenRefused) as caught:
        (tokens or Tokens(KEY, STAFF)).verify(token)
    return str(caught.value)


def test_a_good_token_tells_its_claims():
    tokens = Tokens(KEY, STAFF)
    found = tokens.verify(tokens.issue("ann@example.com", 60, role="staff", ver=3))
    assert (found["sub"], found["role"], found["ver"]) == ("ann@example.com", "staff", 3)
    assert tokens.verify(forged(claims()))["sub"] == "ann@example.com"


@pytest.mark.parametrize("ahead_seconds", [2, 50])
def test_clocks_that_are_a_little_apart_refuse_nobody(ahead_seconds: int):
    tokens = Tokens(KEY, SERVICE)
    for way in (1, -1):
        assert tokens.verify(tokens.issue("api", 60, ahead_seconds=way * ahead_seconds))["sub"] == "api"


def test_no_token_lives_longer_than_its_audience_allows():
    found = jwt.decode(Tokens(KEY, SERVICE).issue("api", 10**9), options={"verify_signature": False})
    assert found["exp"] - found["iat"] == SERVICE.max_lifetime_seconds


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "", None])
def test_another_algorithm_is_refused_however_it_is_signed(algorithm):
    header = {**STAFF_HEADER, "alg": algorithm}
    refused(forged(claims(), header))
    refused(forged(claims(), header).rpartition(".")[0] + ".")


def test_an_unsigned_token_is_refused():
    refused(jwt.encode(claims(), None, algorithm="none", headers={"typ": "at+jwt"}))


@pytest.mark.parametrize("key", [b"", OTHER_KEY.encode(), KEY.encode()[:-1]])
def test_a_token_signed_with_another_key_is_refused(key):
    refused(forged(claims(), key=key))


def test_the_public_key_is_no_secret_to_sign_with(private_key):
    """RFC 8725, section 2.1: an RSA public key taken for an HMAC secret."""
    tokens = Tokens(private_key, STAFF)
    for header in (STAFF_HEADER, {**STAFF_HEADER, "alg": "RS256"}):
        refused(forged(claims(), header, key=public_pem(private_key)), tokens)
    assert tokens.verify(tokens.issue("ann@example.com", 60))["sub"] == "ann@example.com"


def test_a_token_of_one_kind_of_key_is_none_of_the_other(private_key):
    refused(Tokens(KEY, STAFF).issue("ann@example.com", 60), Tokens(private_key, STAFF))
    refused(Tokens(private_key, STAFF).issue("ann@example.com", 60))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["http://example.com/unknown"], "http://example.com/unknown": True},
        {"crit": []},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"jwk": {"kty": "oct", "k": _encoded(OTHER_KEY.encode())}},
        {"x5c": ["AAAA"]},
        {"b64": False, "crit": ["b64"]},
    ],
)
def test_a_token_does_not_say_where_its_key_is_or_what_must_be_understood(header):
    refused(forged(claims(), {**STAFF_HEADER, **header}))


@pytest.mark.parametrize("kid", ["../../../../dev/null", "' UNION SELECT 'x", "", "a" * 4000, 7, None])
def test_a_kid_chooses_no_key(kid):
    header = {**STAFF_HEADER, "kid": kid}
    refused(forged(claims(), header, key=b""))
    refused(forged(claims(), header, key=OTHER_KEY.encode()))


@pytest.mark.parametrize("typ", ["JWT", "service+jwt", "at+jwt ", "AT+JWT", "", None, 1])
def test_a_token_made_for_another_purpose_is_refused(typ):
    refused(forged(claims(), {"alg": "HS256", "typ": typ}))
    refused(forged(claims(), {"alg": "HS256"}))


@pytest.mark.parametrize("audience", ["leads-storage", "leads", "leads-staff2", "LEADS-STAFF", "", ["leads-staff"], 1])
def test_another_audience_is_refused_and_so_is_a_list_that_holds_ours(audience):
    refused(forged(claims(aud=audience)))


@pytest.mark.parametrize("issuer", ["lead", "leads2", "l", "", "Leads", ["leads"], {"leads": 1}, 1])
def test_another_issuer_is_refused_and_so_is_a_part_of_ours(issuer):
    refused(forged(claims(iss=issuer)))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "iat", "exp"])
def test_a_missing_claim_is_refused(claim):
    refused(forged(claims(**{claim: None})))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda now: {"exp": now - LEEWAY_SECONDS - 1}, "expired"),
        (lambda _: {"exp": 0}, "expired"),
        (lambda _: {"exp": -(10**18)}, ""),
        (lambda now: {"exp": now + 10 * 365 * 86_400}, "lives longer"),
        (lambda _: {"exp": 10**18}, "lives longer"),
        (lambda now: {"exp": str(now + 60)}, ""),
        (lambda now: {"iat": str(now)}, ""),
        (lambda _: {"exp": "tomorrow"}, ""),
        (lambda _: {"exp": True}, ""),
        (lambda now: {"exp": [now + 60]}, ""),
        (lambda _: {"exp": {}}, ""),
        (lambda now: {"nbf": now + 3600}, "not yet valid"),
        (lambda now: {"iat": now + 3600, "exp": now + 3660}, "not yet valid"),
        (lambda _: {"sub": 7}, ""),
        (lambda _: {"sub": ["ann@example.com"]}, ""),
    ],
)
def test_times_and_names_that_are_not_what_they_should_be_are_refused(changed, reason):
    assert reason in refused(forged(claims(**changed(int(time.time())))))


@pytest.mark.parametrize("exp", ["1e400", "-1e400", "NaN", "9" * 400, "1e17"])
def test_numbers_that_no_clock_shows_are_refused(exp):
    body = json.dumps(claims(exp=1)).replace('"exp": 1', f'"exp": {exp}')
    assert f'"exp": {exp}' in body
    refused(forged(body))


@pytest.mark.parametrize("body", ["", "[]", '"text"', "7", "null", "{", "\x00"])
def test_claims_that_are_no_object_are_refused(body):
    refused(forged(body))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "...", "a.b", "a.b.c", "é.é.é", "\x00", " ", "a" * 10_000, "eyJhbGciOiJIUzI1NiJ9..", "Ω"]
)
def test_what_is_no_token_is_refused(token):
    refused(token)


def test_a_changed_token_is_refused_wherever_it_was_changed():
    token = Tokens(KEY, STAFF).issue("ann@example.com", 60)
    for position in range(0, len(token) - 1, 7):
        other = "A" if token[position] != "A" else "B"
        refused(token[:position] + other + token[position + 1 :])


def test_a_service_token_opens_no_staff_door_and_the_reverse_even_with_one_key():
    staff, service = Tokens(KEY, STAFF), Tokens(KEY, SERVICE)
    refused(service.issue("api", 60), staff)
    refused(staff.issue("ann@example.com", 60), service)


def test_a_service_token_that_claims_to_be_for_staff_is_still_of_the_wrong_type():
    refused(forged(claims(), {"alg": "HS256", "typ": "service+jwt"}))
    refused(forged(claims(aud="leads-storage")))


def test_the_key_set_verifies_tokens_and_holds_nothing_private(private_key):
    tokens = Tokens(private_key, STAFF)
    (key,) = tokens.jwks()["keys"]
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys()
    found = jwt.decode(
        tokens.issue("ann@example.com", 60),
        jwt.PyJWK(key),
        algorithms=["RS256"],
        audience="leads-staff",
        issuer="leads",
    )
    assert found["sub"] == "ann@example.com"


def test_a_secret_is_in_no_key_set():
    assert Tokens(KEY, STAFF).jwks() == {"keys": []}


def test_a_weak_or_foreign_private_key_is_refused_at_the_start():
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    pem = small.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    with pytest.raises(ValueError, match="at least 2048 bits"):
        Tokens(pem, STAFF)
    with pytest.raises(ValueError, match="not an unencrypted PEM key"):
        Tokens("-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----", STAFF)


def test_a_token_is_remembered_for_as_long_as_it_lives_and_not_for_ever_in_number(monkeypatch):
    tokens, verified = Tokens("s" * 48, SERVICE), []
    decode = jwt.decode_complete

    def counted(token: str, *arguments: Any, **options: Any) -> Any:
        verified.append(token)
        return decode(token, *arguments, **options)

    monkeypatch.setattr("shared.tokens.jwt.decode_complete", counted)
    first = tokens.issue("api", 60)
    for _ in range(3):
        tokens.verify(first)["sub"] = "somebody else"
    assert (verified.count(first), tokens.verify(first)["sub"]) == (1, "api")
    with monkeypatch.context() as later:
        later.setattr("shared.tokens.time", SimpleNamespace(time=lambda: time.time() + 61))
        tokens.verify(first)
    assert verified.count(first) == 2, "by its own clock it may have expired: it is looked at"
    for number in range(KNOWN_MAX):
        tokens.verify(tokens.issue(f"api-{number}", 60))
    tokens.verify(first)
    assert verified.count(first) == 3
    assert len(tokens._known) == KNOWN_MAX
