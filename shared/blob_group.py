"""Several short blobs in one request: how the api writes such a group down, and the storage reads it.

First a line of JSON that says what follows, `[{"id", "size_bytes", "disposition", "correlation_id"}, ...]`, then the
bytes of all, one after the other. The answer is a JSON array with one outcome for each, in the same order: its receipt,
`{"id", "size_bytes", "sha256"}`, or its id and why it was not kept, `{"id", "problem"}`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.events import is_correlation_id
from shared.ids import is_id

MEDIA_TYPE: Final = "application/vnd.leads.blob-group"
MAX_BLOBS: Final = 32
BLOB_MAX_BYTES: Final = 128 * 1024
"""A longer blob goes by itself, as a stream."""

GROUP_MAX_BYTES: Final = 1024 * 1024
"""The longest request. aiohttp warns of longer ones that are written at once, and rightly: others wait meanwhile."""

_ENTRY_MAX_BYTES = 2 * 1024
"""What the line says of one blob, at most: its name is the longest in it."""


@dataclass(frozen=True, slots=True)
class ShortBlob:
    """A whole blob, held in memory, and what the storage is told of it."""

    id: str
    body: bytes | bytearray | memoryview
    disposition: str
    correlation_id: str | None


def weight(blob: ShortBlob) -> int:
    """How much of `GROUP_MAX_BYTES` it takes. Blobs that weigh no more than that together are a group."""
    return max(len(blob.body) + _ENTRY_MAX_BYTES, GROUP_MAX_BYTES // MAX_BLOBS)


def written(blobs: Sequence[ShortBlob]) -> bytes:
    """The group as the body of a request."""
    line = [
        {
            "id": blob.id,
            "size_bytes": len(blob.body),
            "disposition": blob.disposition,
            "correlation_id": blob.correlation_id,
        }
        for blob in blobs
    ]
    return b"".join([json.dumps(line).encode(), b"\n", *(blob.body for blob in blobs)])


def read(group: bytes | bytearray) -> list[ShortBlob]:
    """The blobs of that body, whose bytes are parts of it. Raises `ValueError` for what `written` does not write."""
    end = group.find(b"\n", 0, MAX_BLOBS * _ENTRY_MAX_BYTES)
    if end < 0:
        raise ValueError("its first line does not end")
    try:
        line = json.loads(bytes(group[:end]))
    except RecursionError:
        raise ValueError("its first line is nested too deeply") from None
    if not isinstance(line, list) or not 0 < len(line) <= MAX_BLOBS:
        raise ValueError(f"it has not 1 to {MAX_BLOBS} blobs")
    rest, blobs = memoryview(group)[end + 1 :], []
    for one in line:
        blob = _blob(one, rest)
        rest = rest[len(blob.body) :]
        blobs.append(blob)
    if rest:
        raise ValueError("more follows than it says")
    if len({blob.id for blob in blobs}) < len(blobs):
        raise ValueError("an id comes twice")
    return blobs


def _blob(said: object, rest: memoryview) -> ShortBlob:
    match said:
        case {
            "id": str(blob_id),
            "size_bytes": int(size_bytes),
            "disposition": str(disposition),
            "correlation_id": str() | None as correlation_id,
        } if is_id(blob_id) and (correlation_id is None or is_correlation_id(correlation_id)):
            if isinstance(size_bytes, bool) or not 0 < size_bytes <= min(BLOB_MAX_BYTES, len(rest)):
                raise ValueError("a blob is not as long as it says")
            return ShortBlob(blob_id, rest[:size_bytes], disposition, correlation_id)
    raise ValueError("a blob is not as it says")
