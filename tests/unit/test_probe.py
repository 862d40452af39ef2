"""The health check of a container: what `/readyz` says, as an exit status, quickly and without our packages."""

import asyncio
import subprocess
import sys
import time

from tests.harness.deployment import ROOT, free_ports

PROBE = (sys.executable, "-I", "-S", str(ROOT / "services/cli/probe.py"))
"""Isolated and without site-packages: only the standard library is there."""


async def answering(answer: bytes | None, port: int):
    async def serve(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(answer)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port)


async def probe(port: int) -> tuple[int, str]:
    done = await asyncio.to_thread(subprocess.run, [*PROBE, str(port)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


async def test_ready_is_0_and_anything_else_is_1_with_the_words_for_docker_inspect():
    (port,) = free_ports(1)
    assert (await probe(port))[0] == 1
    for answer, status, word in (
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready", 0, "ready"),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 7\r\n\r\nstorage", 1, "storage"),
        (None, 1, "no answer"),
        (b"this is not HTTP\r\n\r\n", 1, "no answer"),
    ):
        async with await answering(answer, port):
            found = await probe(port)
        assert found[0] == status
        assert word in found[1]


async def test_it_is_over_soon():
    (port,) = free_ports(1)
    began = time.perf_counter()
    await probe(port)
    assert time.perf_counter() - began < 2
