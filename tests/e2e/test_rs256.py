"""With a private key of their own, staff tokens are verified by anybody with the public half, and forged by nobody."""

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD
from tests.harness.sizes import embedded


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()).decode()


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def signed_with_hmac(token: str, key: bytes) -> str:
    """The claims of a good token, under HS256 with that key."""
    header = jwt.get_unverified_header(token) | {"alg": "HS256"}
    signed = f"{encoded(json.dumps(header).encode())}.{token.split('.')[1]}"
    return f"{signed}.{encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def unsigned(token: str, alg: str) -> str:
    header = jwt.get_unverified_header(token) | {"alg": alg}
    return f"{encoded(json.dumps(header).encode())}.{token.split('.')[1]}."


async def statuses(client: Client, tokens: list[str]) -> list[int]:
    answers = [await client.call("GET", "/leads", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
    return [answer.status for answer in answers]


@pytest.mark.long
async def test_tokens_are_verified_with_the_public_key_alone_and_the_public_key_forges_none(tmp_path, pem):
    file = tmp_path / "jwt.pem"
    file.write_text(pem)
    async with (
        embedded(tmp_path, {"LEADS_JWT_PRIVATE_KEY_FILE": str(file)}) as house,
        Client(house.deployment.api_url) as client,
    ):
        token = (await client.login(ADMIN, PASSWORD)).json["access_token"]
        assert (await client.call("GET", "/leads")).status == 200

        jwks = (await client.call("GET", "/.well-known/jwks.json", headers={"Authorization": ""})).json
        assert [sorted(key) for key in jwks["keys"]] == [["alg", "e", "key_ops", "kty", "n", "use"]]
        assert jwks["keys"][0]["key_ops"] == ["verify"]
        claims = jwt.decode(
            token, jwt.PyJWKSet.from_dict(jwks).keys[0], algorithms=["RS256"], audience="leads-staff", issuer="leads"
        )
        assert claims["sub"] == ADMIN

        public = serialization.load_pem_private_key(pem.encode(), None).public_key()
        spki, pkcs1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
        forms = [public.public_bytes(serialization.Encoding.PEM, form) for form in (spki, pkcs1)]
        forms += [public.public_bytes(serialization.Encoding.DER, spki), forms[0].strip(), b""]
        forged = [signed_with_hmac(token, key) for key in forms]
        forged += [unsigned(token, alg) for alg in ("none", "None", "RS256", "HS256")]
        assert set(await statuses(client, forged)) == {401}

        # The same key given in the environment, after a restart: who is signed in stays so.
        del house.deployment.environment["LEADS_JWT_PRIVATE_KEY_FILE"]
        house.deployment.environment["LEADS_JWT_PRIVATE_KEY"] = pem
        house.deployment.kill("api")
        await house.deployment.restart("api")
        assert await statuses(client, [token]) == [200]
