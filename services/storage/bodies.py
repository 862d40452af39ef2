"""A body on its way into a store: cut into pieces of a size that is worth a trip, and counted."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

PIECE_BYTES = 128 * 1024
"""What a body is handed on in: the longest that takes a single trip to a thread."""


async def pieces(held: bytearray, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """`held` and what follows it, in pieces worth a trip to the disk or a thread however small the chunks are."""
    async for chunk in chunks:
        if len(held) >= PIECE_BYTES:
            yield held
            held = bytearray()
        held += chunk
    yield held


class CountedBody:
    """A long body on its way: its size and SHA-256 are known when its last piece has been taken."""

    def __init__(self, held: bytearray, chunks: AsyncIterator[bytes]) -> None:
        self._held = held
        self._chunks = chunks
        self._digest = sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._digest.hexdigest()

    async def pieces(self) -> AsyncIterator[bytes]:
        held, self._held = self._held, bytearray()
        async for piece in pieces(held, self._chunks):
            self.size_bytes += len(piece)
            await asyncio.to_thread(self._digest.update, piece)
            yield bytes(piece)
