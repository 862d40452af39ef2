"""A real S3 server for tests: moto's, as a process of its own, reached over HTTP; and a front that plays its bad days.

Keeps everything in memory. Knows nothing of Leads but the settings that lead to it.
"""

import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

from tests.harness.deployment import ROOT, free_ports
from tests.harness.http_server import serving

MISSING = "The S3 server is not installed here: run `scripts/s3`."

PYTHON = ROOT / ".venv" / "s3" / "bin" / "python"
BEHIND = "TESTS_S3_ENDPOINT"
"""In a deployment's environment: where a test finds its bucket whatever stands before it. No room reads this."""

KEY = {"AWS_ACCESS_KEY_ID": "a-key-of-the-tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def s3_is_here() -> bool:
    """Whether what `requirements/s3.txt` lists has been installed."""
    return (PYTHON.parent.parent / ".installed").exists()


@dataclass(frozen=True)
class S3Server:
    """A running server on 127.0.0.1."""

    port: int

    def make_bucket(self, name: str) -> None:
        """An empty bucket."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        with urllib.request.urlopen(asked, timeout=10):
            pass

    def check_keys(self, *, after_calls: int) -> None:
        """Ask for a key that it knows, of which there is none, after so many more calls."""
        url = f"http://127.0.0.1:{self.port}/moto-api/reset-auth"
        plain = {"Content-Type": "text/plain"}
        asked = urllib.request.Request(url, data=str(after_calls).encode(), headers=plain)
        with urllib.request.urlopen(asked, timeout=10):
            pass

    def settings(self, bucket: str, *, port: int | None = None) -> dict[str, str]:
        """What leads to a bucket here. `port` is where it is found if something stands between."""
        return {
            "LEADS_BLOB_URL": f"s3://{bucket}/leads",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_REGION": "us-east-1",
            BEHIND: f"http://127.0.0.1:{self.port}",
            **KEY,
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server, ended afterwards. Its log is `folder/s3.log`. Raises `RuntimeError` with `MISSING`."""
    if not s3_is_here():
        raise RuntimeError(MISSING)
    (port,) = free_ports(1)
    command = [str(PYTHON), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, f"http://127.0.0.1:{port}/moto-api/", folder / "s3.log"):
        yield S3Server(port)


class S3Front:
    """Stands before an S3 server and hands everything on, until it is told to be busy."""

    def __init__(self, server: S3Server) -> None:
        self.port = 0
        self.is_busy = False
        """Every call is answered `503 SlowDown`."""
        self.refuse_next = 0
        """So many calls more are."""
        self.refused = 0
        self.lose_next = 0
        """So many calls more are carried out, and their answers lost."""
        self._server = server

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.is_busy or self.refuse_next:
            self.refuse_next = max(0, self.refuse_next - 1)
            self.refused += 1
            return web.Response(status=503, text=SLOW_DOWN, content_type="application/xml")
        url = f"http://127.0.0.1:{self._server.port}{request.raw_path}"
        sent = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        async with self._session.request(request.method, url, data=BytesIO(body), headers=sent) as response:
            dropped = {"Transfer-Encoding", "Connection", "Content-Length"}
            if self.lose_next and request.transport is not None:
                self.lose_next -= 1
                request.transport.abort()
            headers = {name: value for name, value in response.headers.items() if name not in dropped}
            if request.method == "HEAD" and "Content-Length" in response.headers:
                headers["Content-Length"] = response.headers["Content-Length"]
            return web.Response(status=response.status, body=await response.read(), headers=headers)


@asynccontextmanager
async def s3_front(server: S3Server) -> AsyncIterator[S3Front]:
    """A front, taken down afterwards."""
    async with S3Front(server) as front:
        yield front
