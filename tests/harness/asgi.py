"""Calls an ASGI app without a server, for tests of what a route answers."""

from hashlib import sha256
from typing import Any

from tests.harness.files import pdf

BOUNDARY = "a-boundary-of-the-tests"


def lead_form(email: str, resume: bytes | None = None) -> bytes:
    """A lead as multipart/form-data with `BOUNDARY`."""
    fields = {"first_name": "Ann", "last_name": "Lee", "email": email}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    file = 'Content-Disposition: form-data; name="resume"; filename="cv.pdf"\r\n\r\n'
    whole = [part.encode() for part in parts] + [file.encode() + (resume or pdf(2000))]
    mark = f"--{BOUNDARY}".encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in whole) + mark + b"--\r\n"


async def post_form(app: Any, path: str, email: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to one lead."""
    body = lead_form(email)
    headers = {
        "host": "testserver",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "content-length": str(len(body)),
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


def sha256_of(chunks: list[bytes]) -> str:
    """Hash of all chunks together, in hex."""
    return sha256(b"".join(chunks)).hexdigest()
