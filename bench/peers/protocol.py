"""What every system does that is measured beside Leads, and what it must tell afterwards."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

ADDRESS = "staff@bench.example"
"""Who signs in at the peers."""

PASSWORD = "correct-horse-battery-staple"
STILL_SECONDS = 60.0


class Lost(Exception):  # noqa: N818
    """Something that was answered as kept is not there. No figure is worth anything then."""


@dataclass(frozen=True)
class Kept:
    """What was found behind a system's back once it had nothing left to do."""

    leads: int
    files: int
    drained_seconds: float | None = None
    """How long event and e-mails took after the last answer; None where there are none."""

    def __str__(self) -> str:
        extra = self.files - self.leads
        return f"{self.leads:,} rows and files" if not extra else f"{self.leads:,} rows, {self.files:,} files"


class Peer(Protocol):
    """A system that takes leads. Used as a context manager: up and ready inside, ended afterwards."""

    name: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    @property
    def intake_url(self) -> str:
        """Where leads are posted."""
        ...

    async def settle(self, accepted: int) -> Kept:
        """Wait until everything is done that follows a lead, and count. Raises `Lost` if there is less than that."""
        ...

    def resident_mib(self) -> float:
        """Resident memory of all its processes."""
        ...


class StaffPeer(Peer, Protocol):
    """A system whose staff sign in, list and download."""

    async def sign_in(self) -> Mapping[str, str]:
        """The headers that a signed-in request has."""
        ...

    @property
    def list_url(self) -> str:
        """The newest 50 leads that are pending."""
        ...

    def fill(self, total: int) -> None:
        """Put rows straight into its database until there are so many, four in five of them pending."""
        ...

    async def upload(self, resume: bytes) -> str:
        """Send a lead; returns by what its resume is found."""
        ...

    async def resume_url(self, found_by: str, headers: Mapping[str, str]) -> str:
        """Where that resume is downloaded by whoever signed in with these headers."""
        ...


async def still(name: str, count: Callable[[], Kept], accepted: int) -> Kept:
    """What is kept once that no longer changes: clients that went away left requests behind. Raises `Lost`."""
    before = None
    async with asyncio.timeout(STILL_SECONDS):
        while (kept := await asyncio.to_thread(count)) != before:
            before = kept
            await asyncio.sleep(1.0)
    if min(kept.leads, kept.files) < accepted:
        raise Lost(f"{name} answered {accepted:,} leads as kept, but has {kept}")
    return kept
