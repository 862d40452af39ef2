"""Signed tokens (JWT, RFC 7519; best practice RFC 8725): one small class for staff logins, service calls and tickets.

Each audience has its own key, `aud` and `typ`, so that a service token opens no staff route and the reverse.
"""

import time
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ISSUER = "leads"
REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub"]
RSA_MIN_BITS = 2048
LEEWAY_SECONDS = 60
"""How far the clock of who verifies may be off ("a few minutes" at most: RFC 7519, section 4.1.4)."""

CLOCK_HEADER = "X-Leads-Clock"
"""With a room's 401: the time by which it verifies, in seconds since 1970. An answer's `Date` may be a second old."""

_REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c"})
"""A token never says where its key is or what must be understood (RFC 8725, section 3.10)."""


class TokenRefused(Exception):  # noqa: N818
    """The token is missing, forged, expired, or was made for somebody else."""


@dataclass(frozen=True)
class Audience:
    """Who a token is for: the `aud` claim, the `typ` header, and how long one may live at most (seconds)."""

    name: str
    type_header: str
    max_lifetime_seconds: int


STAFF = Audience("leads-staff", "at+jwt", 12 * 3600)
SERVICE = Audience("leads-storage", "service+jwt", 300)
UPLOAD = Audience("leads-uploads", "upload+jwt", 15 * 60)
"""Tickets, which `shared/tickets.py` makes."""


KNOWN_MAX = 256
"""How many tokens are remembered that were verified."""


class Tokens:
    """Issues and verifies tokens of one audience, with HS256 (a secret) or RS256 (a PEM private key)."""

    def __init__(self, key: str, audience: Audience) -> None:
        self._audience = audience
        self._known: dict[str, dict[str, Any]] = {}
        self._private: Any = key
        self._public: Any = key
        self.algorithm = "HS256"
        if key.startswith("-----BEGIN"):
            self._private = _rsa_key(key)
            self._public = self._private.public_key()
            self.algorithm = "RS256"

    def issue(self, subject: str, lifetime_seconds: int, *, ahead_seconds: float = 0.0, **claims: Any) -> str:
        """A token for `subject`, valid from now for `lifetime_seconds`, by a clock that is `ahead_seconds` of ours."""
        now = int(time.time() + ahead_seconds)
        payload = {
            "iss": ISSUER,
            "aud": self._audience.name,
            "sub": subject,
            "iat": now,
            "exp": now + min(lifetime_seconds, self._audience.max_lifetime_seconds),
            **claims,
        }
        headers = {"typ": self._audience.type_header}
        return jwt.encode(payload, self._private, algorithm=self.algorithm, headers=headers)

    def verify(self, token: str, *, even_expired: bool = False) -> dict[str, Any]:
        """The claims of a good token, or of one that was good until it expired. Raises `TokenRefused`.

        One that was verified is known until it expires: most come many times.
        """
        known = self._known.get(token)
        if known is not None and time.time() < known["exp"]:
            return known.copy()
        claims = self._verified(token, even_expired=even_expired)
        self._known.pop(token, None)
        if time.time() < claims["exp"]:
            if len(self._known) >= KNOWN_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[token] = claims
        return claims.copy()

    def _verified(self, token: str, *, even_expired: bool) -> dict[str, Any]:
        try:
            decoded = jwt.decode_complete(
                token,
                self._public,
                algorithms=[self.algorithm],
                audience=self._audience.name,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS, "strict_aud": True, "verify_exp": not even_expired},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise TokenRefused(str(error)) from error
        self._check_shape(decoded["header"], decoded["payload"])
        claims: dict[str, Any] = decoded["payload"]
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517); empty with HS256, whose key is nobody else's business."""
        if self.algorithm != "RS256":
            return {"keys": []}
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [{**jwk, "use": "sig", "alg": self.algorithm}]}

    def _check_shape(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        if header.get("typ") != self._audience.type_header:
            raise TokenRefused("made for another purpose")
        if _REFUSED_HEADERS & header.keys():
            raise TokenRefused("carries a header that is not understood here")
        if not isinstance(claims["exp"], int) or not isinstance(claims["iat"], int):
            raise TokenRefused("gives its times as something else than whole seconds")
        if claims["exp"] - claims["iat"] > self._audience.max_lifetime_seconds:
            raise TokenRefused("lives longer than any token made here")


def _rsa_key(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("the private key is not an unencrypted PEM key") from error
    if not isinstance(key, RSAPrivateKey) or key.key_size < RSA_MIN_BITS:
        raise ValueError(f"the private key must be RSA with at least {RSA_MIN_BITS} bits")
    return key
