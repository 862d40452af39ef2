"""A port that somebody else has is said with its setting before Docker says it without; our own is no trouble."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.cli.ports import main
from tests.harness.deployment import free_ports


@asynccontextmanager
async def listener(answer: bytes | None):
    """Answers every request so; None: hangs up at once; b"": takes it and says nothing."""

    async def serve(reader, writer) -> None:
        if answer is not None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            await reader.read()  # until the other side hangs up
        writer.transport.abort() if answer is None else writer.close()

    (port,) = free_ports(1)
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        await server.wait_closed()


async def looked_at(port: int, address: str = "127.0.0.1") -> int:
    return await asyncio.to_thread(main, [f"LEADS_API_PORT={address}:{port}"])


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_a_free_port_is_no_trouble(address):
    (port,) = free_ports(1)
    assert await looked_at(port, address) == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nX-Correlation-ID: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\n<title>RabbitMQ Management</title>\n",
        None,
    ],
)
async def test_what_leads_itself_has_published_is_no_trouble(answer):
    async with listener(answer) as port:
        assert await looked_at(port) == 0


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"SSH-2.0-OpenSSH\r\n", b""])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_somebody_elses_is_one_line_with_its_setting(answer, address, capsys):
    async with listener(answer) as port:
        assert await looked_at(port, address) == 69
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"leads: port {port} of {address} is in use: set LEADS_API_PORT to a free one")
