"""The harness's proxy does to a connection what its names say, and nothing when it is told nothing."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.harness.proxy import Proxy

SILENCE_SECONDS = 0.1
SOON_SECONDS = 5.0


class Echo:
    """A server that sends back what it gets, and counts how its connections ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended: list[type[BaseException] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data)
            self.ended.append(None)
        except ConnectionError as error:
            self.ended.append(type(error))
        finally:
            writer.close()


@pytest.fixture
async def echo():
    return Echo()


@pytest.fixture
async def proxy(echo):
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


@asynccontextmanager
async def connected(proxy: Proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def say(peer, text: bytes) -> bytes:
    reader, writer = peer
    writer.write(text)
    async with asyncio.timeout(SOON_SECONDS):
        return await reader.readexactly(len(text))


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def ended(echo: Echo) -> type[BaseException] | None:
    async with asyncio.timeout(SOON_SECONDS):
        while not echo.ended:
            await asyncio.sleep(0.005)
    return echo.ended[0]


async def test_it_carries_both_ways_and_passes_an_end_on(proxy, echo):
    async with connected(proxy) as (reader, writer):
        assert await say((reader, writer), b"hello") == b"hello"
        writer.write_eof()
        assert await reader.read() == b""
    assert await ended(echo) is None


async def test_a_reset_reaches_both_ends_and_the_next_connection_is_carried(proxy, echo):
    async with connected(proxy) as peer:
        await say(peer, b"hello")
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await peer[0].read()
    assert await ended(echo) is ConnectionResetError
    async with connected(proxy) as peer:
        assert await say(peer, b"again") == b"again"


async def test_a_black_hole_carries_nothing_and_keeps_it_for_later(proxy, echo):
    async with connected(proxy) as old:
        await say(old, b"hello")
        proxy.black_hole()
        async with connected(proxy) as new:
            old[1].write(b"1")
            new[1].write(b"2")
            assert await is_silent(old[0])
            assert await is_silent(new[0])
            assert echo.heard == b"hello"
            await proxy.heal()
            assert await old[0].readexactly(1) == b"1"
            assert await new[0].readexactly(1) == b"2"


async def test_a_black_hole_may_have_one_direction(proxy, echo):
    async with connected(proxy) as peer:
        await say(peer, b"hello")
        proxy.black_hole(to_target=False)
        peer[1].write(b" you")
        assert await is_silent(peer[0])
        assert echo.heard == b"hello you"


async def test_half_open_is_seen_by_the_target_alone(proxy, echo):
    async with connected(proxy) as peer:
        await say(peer, b"hello")
        assert proxy.leave_half_open() == 1
        assert await ended(echo) is ConnectionResetError
        peer[1].write(b"anybody?")
        assert await is_silent(peer[0])
        async with connected(proxy) as another:
            assert await say(another, b"me") == b"me"


async def test_it_can_refuse_and_listen_again_at_the_same_port(proxy):
    port = proxy.port
    async with connected(proxy) as peer:
        await say(peer, b"hello")
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert await say(peer, b"still here") == b"still here"
        await proxy.heal()
        assert proxy.port == port
        async with connected(proxy) as another:
            assert await say(another, b"hello") == b"hello"


async def test_it_can_be_slow(proxy):
    async with connected(proxy) as peer:
        proxy.delay_seconds = SILENCE_SECONDS
        peer[1].write(b"x")
        assert await is_silent(peer[0])
        assert await peer[0].readexactly(1) == b"x"
