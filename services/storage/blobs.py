"""What a store of resumes can do, whatever it stands on, and how it says no. Folders and buckets live elsewhere.

A blob is written once under an id that is used once, and never changes after that.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.blob_group import ShortBlob
from shared.disposition import ATTACHMENT
from shared.problems import Problem, ProblemType

RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True)
class Receipt:
    """What was kept: the proof, for the caller, that these are the bytes that were sent."""

    id: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class BlobFacts:
    """What is known of a blob without reading it. `stored_at` is when its last byte was written."""

    id: str
    size_bytes: int
    stored_at: datetime


@dataclass(frozen=True)
class BlobPage:
    """One page of a listing. It can be short, even empty, and not the last: that one has no `next`."""

    blobs: tuple[BlobFacts, ...]
    next: str | None


class BlobStore(Protocol):
    """Where resumes are kept. Every verb raises `StorageBroken` when the store itself does not work."""

    async def put(self, blob_id: str, chunks: AsyncIterator[bytes], disposition: str = ATTACHMENT) -> Receipt:
        """Keep all of `chunks` durably, or nothing at all, also when `chunks` raises.

        A store whose links lead past us keeps `disposition` with it: the `Content-Disposition` of what they lead to.

        The same bytes under the same id once more are kept already: the receipt is the same. Raises `BlobExists` for
        other bytes (what is there stays as it is), and `StorageFull`.
        """

    async def put_group(self, blobs: Sequence[ShortBlob]) -> list[Receipt | Problem]:
        """`put` of several whole ones with different ids: the receipt of each, or why it has none, in that order.

        Raises what `put` raises where that is so for all of them.
        """

    async def receipt(self, blob_id: str) -> Receipt:
        """What is kept under this id, durably, read once more. Raises `BlobMissing`."""

    async def facts(self, blob_id: str) -> BlobFacts:
        """Raises `BlobMissing`."""

    async def look_into(self, blob_id: str) -> tuple[BlobFacts, bytes | None]:
        """Its facts and, where it comes with them at no more cost, all of its body. Raises `BlobMissing`."""

    def read(self, blob_id: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `stop`, exactly. Raises `BlobCutShort` when there are fewer."""

    async def link(self, blob_id: str) -> str | None:
        """Where anybody can fetch the blob for the next minute, always as an attachment. None where only we can.

        Raises `BlobMissing`.
        """

    async def delete(self, blob_id: str) -> None:
        """Remove the blob durably. One that is not there is fine."""

    async def page(self, *, stored_before: datetime, after: str, limit: int) -> BlobPage:
        """Look at the next `limit` blobs in the order of their ids, and tell of those stored before the instant.

        They follow the id `after`; an empty one means from the first.
        """

    async def note_newest_lead(self, lead_id: str) -> None:
        """Keep this id durably beside the blobs, in place of the one before."""

    async def newest_lead(self) -> str | None:
        """What was noted last."""

    async def check(self) -> None:
        """Raises `StoreUnfit` when nothing can be kept here now."""


class BlobMissing(Problem):
    """No blob has this id, or it cannot be the id of one."""

    def __init__(self) -> None:
        super().__init__(ProblemType.NOT_FOUND, "No resume is stored under this id.")


class BlobExists(Problem):
    """A blob of other bytes is stored under this id, or one is on its way in."""

    def __init__(self) -> None:
        detail = "A resume is already stored under this id. An id is used once: take a new one."
        super().__init__(ProblemType.PRECONDITION_FAILED, detail)


class StorageFull(Problem):
    """The disk, or the quota, has no room left."""

    def __init__(self) -> None:
        super().__init__(ProblemType.STORAGE_FULL, "There is no room left for resumes. Nothing was kept.")


class StorageBroken(Problem):
    """The store cannot be read or written: read-only, not permitted, or failing."""

    def __init__(self) -> None:
        detail = "The resumes cannot be reached right now. Please try again."
        super().__init__(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)


class BlobCutShort(Exception):  # noqa: N818 - it is no refusal: part of the answer is already on its way
    """The blob holds fewer bytes than it said."""


class StoreUnfit(Exception):  # noqa: N818
    """The store would take nothing now, with the reason for ops."""
