"""A client of the API as a program outside would write it: nothing of Leads is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

import aiohttp


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of one answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


class Client:
    """Calls one API. `token` is sent once it is set by `login`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token: str | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """One request. Raises aiohttp's errors when there is no answer."""
        headers = dict(options.pop("headers", {}))
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        async with self._session.request(
            method, self.url + path, headers=headers, allow_redirects=False, **options
        ) as response:
            body = await response.read()
            parsed = await response.json(content_type=None) if "json" in response.content_type else None
            return Answer(response.status, response.headers, body, parsed)

    async def post_lead(
        self,
        email: str,
        resume: bytes | BinaryIO,
        *,
        first_name: str = "Ann",
        last_name: str = "Lee",
        filename: str = "cv.pdf",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a lead."""
        form = aiohttp.FormData()
        form.add_field("first_name", first_name)
        form.add_field("last_name", last_name)
        form.add_field("email", email)
        form.add_field("resume", resume, filename=filename, content_type="application/octet-stream")
        return await self.call("POST", "/leads", data=form, headers=headers or {})

    async def login(self, username: str, password: str) -> Answer:
        """Sign in, and stay so."""
        answer = await self.call("POST", "/leads/login", data={"username": username, "password": password})
        if answer.status == 200:
            self.token = answer.json["access_token"]
        return answer
