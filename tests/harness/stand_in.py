"""A stand-in for a room: answers `/readyz` on a port, and ends in the way that its arguments say.

Run as `python tests/harness/stand_in.py PORT [--exit STATUS] [--after SECONDS] [--deaf] [--linger SECONDS]
[--journal FILE NAME]`.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--exit", type=int, default=None)
    parser.add_argument("--after", type=float, default=0.0)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--linger", type=float, default=0.0)
    parser.add_argument("--journal", nargs=2, default=None)
    asyncio.run(serve(parser.parse_args()))


async def serve(wanted: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None if wanted.deaf else stop.set())
    server = await asyncio.start_server(_answer, "127.0.0.1", wanted.port)
    _note(wanted, "up")
    if wanted.exit is not None:
        await asyncio.sleep(wanted.after)
        sys.exit(wanted.exit)
    await stop.wait()
    _note(wanted, "told")
    await asyncio.sleep(wanted.linger)
    server.close()
    _note(wanted, "gone")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, EOFError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
    writer.close()


def _note(wanted: argparse.Namespace, what: str) -> None:
    if wanted.journal:
        file, name = wanted.journal
        with Path(file).open("a") as journal:
            journal.write(f"{name} {what}\n")


if __name__ == "__main__":
    main()
