"""Whether what was answered was on the disk before: the order of a lead's system calls, from its resume to its 201.

A pure function over calls, whoever watched them (`tests/harness/strace.py`). A lead is followed by its ids: that of its
blob in paths and in the storage's answer, its own in the frames of the database's log and in the answer to the client.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.harness.strace import Call

WATCHED = (
    *("fsync", "fdatasync", "link", "linkat", "rename", "renameat", "renameat2"),
    *("write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg"),
)
STRING_BYTES = 4200
"""A page of SQLite's, so that an id is seen wherever it stands in it."""

WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
"""https://www.sqlite.org/fileformat2.html#the_write_ahead_log"""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_WROTE = re.compile(r'.*?"(?P<bytes>.*)", (?P<count>\d+), (?P<offset>\d+)', re.DOTALL)
_BYTE = re.compile(r"\\[0-7]{1,3}|\\.|.", re.DOTALL)
_ZERO = frozenset({r"\0", r"\000"})
"""Three digits where another one follows."""

_STATUSES = {True: (200, 201), False: (201,)}
"""Of answers that promise something: the storage's, the api's."""

_PATHS = re.compile(r'"([^"]*)"')
_SYNCS = frozenset({"fsync", "fdatasync"})


@dataclass(frozen=True)
class Where:
    """Where things are in the deployment that was watched."""

    resumes: str
    wal: str
    storage_port: int
    api_port: int


@dataclass
class Commit:
    """A transaction in the log: its first frame's place, and the write that completes its last frame."""

    offset: int
    last: Call | None = None


@dataclass
class Seen:
    """What the calls tell, by the id of a blob or of a lead."""

    written: dict[str, Call] = field(default_factory=dict)
    synced: dict[str, Call] = field(default_factory=dict)
    named: dict[str, Call] = field(default_factory=dict)
    folder_syncs: list[Call] = field(default_factory=list)
    frames: dict[str, tuple[Call, Commit]] = field(default_factory=dict)
    wal_syncs: list[Call] = field(default_factory=list)
    stored: dict[str, Call] = field(default_factory=dict)
    """Where the storage's 201 begins that names this blob, or the receipt for one that came by a ticket."""
    answered: dict[str, Call] = field(default_factory=dict)
    """Where the api's 201 begins that names this lead."""

    def began_a_log(self, lead: str) -> bool:
        """Whether the lead's commit was the first in a log that was begun, or begun anew after a checkpoint."""
        return lead in self.frames and self.frames[lead][1].offset == WAL_HEADER_BYTES


def faults(seen: Seen, blobs: Mapping[str, str]) -> list[str]:
    """What is missing, or not in its order, of these leads (the id of each, and of its blob)."""
    return [fault for lead, blob in blobs.items() for fault in _faults(lead, _steps(seen, lead, blob))]


def look(calls: Iterable[Call], where: Where) -> Seen:
    """Sort the calls by what they are about. A sync, or a new name, that the kernel refused is none."""
    reader = _Reader(where)
    for call in calls:
        if not call.failed:
            reader.take(call)
    for syncs in (reader.seen.folder_syncs, reader.seen.wal_syncs):
        syncs.sort(key=lambda call: call.began)
    return reader.seen


def _steps(seen: Seen, lead: str, blob: str) -> dict[str, Call | None]:
    named = seen.named.get(blob)
    frame, commit = seen.frames.get(lead, (None, None))
    last = commit.last if commit else None
    return {
        "the resume's last write": seen.written.get(blob),
        "the fsync of the resume": seen.synced.get(blob),
        "its name in the folder": named,
        "a fsync of the folder": _first_after(seen.folder_syncs, named),
        "the storage's answer": seen.stored.get(blob),
        "the lead in the database's log": frame,
        "the end of its commit": last,
        "a fdatasync of the log": _first_after(seen.wal_syncs, last),
        "the 201": seen.answered.get(lead),
    }


def _faults(lead: str, steps: Mapping[str, Call | None]) -> Iterator[str]:
    for (earlier, before), (later, after) in pairwise(steps.items()):
        if after is None or before is None:
            yield f"{lead}: {later if after is None else earlier} was not seen"
        elif before is not after and before.ended >= after.began:
            yield f"{lead}: {later} began before {earlier} had ended"


def _first_after(calls: Sequence[Call], call: Call | None) -> Call | None:
    """The first of `calls`, which are in the order of their begin, that began when `call` had ended."""
    if call is None:
        return None
    at = bisect_right(calls, call.ended, key=lambda one: one.began)
    return calls[at] if at < len(calls) else None


class _Reader:
    def __init__(self, where: Where) -> None:
        self.seen = Seen()
        self._where = where
        self._incoming = f"{where.resumes}/.incoming/"
        self._answers: dict[str, Call] = {}
        self._commit: Commit | None = None
        self._is_last_frame = False

    def take(self, call: Call) -> None:
        if call.name.startswith(("link", "rename")):
            self._named(call)
        elif call.name in _SYNCS:
            self._synced(call)
        elif call.file.startswith(self._incoming):
            self.seen.written[self._blob_of(call.file)] = call
        elif call.file == self._where.wal:
            self._logged(call)
        elif call.file.startswith("TCP"):
            self._sent(call)

    def _named(self, call: Call) -> None:
        folder, _, name = _PATHS.findall(call.arguments)[-1].rpartition("/")
        if folder == self._where.resumes:
            self.seen.named[name] = call

    def _synced(self, call: Call) -> None:
        if call.file == self._where.resumes:
            self.seen.folder_syncs.append(call)
        elif call.file == self._where.wal:
            self.seen.wal_syncs.append(call)
        elif call.file.startswith(self._incoming):
            self.seen.synced[self._blob_of(call.file)] = call

    def _blob_of(self, path: str) -> str:
        """One that comes by a ticket has the time after its id until when it may come."""
        return path.removeprefix(self._incoming).partition(".")[0]

    def _logged(self, call: Call) -> None:
        """SQLite writes each frame as a header, which says whether it is a commit's last, and a page."""
        wrote = _WROTE.fullmatch(call.arguments)
        assert wrote is not None, f"a write to the log that is not understood: {call.arguments[:80]}"
        if int(wrote["count"]) == FRAME_HEADER_BYTES:
            self._commit = self._commit or Commit(int(wrote["offset"]))
            self._is_last_frame = not _ZERO.issuperset(_BYTE.findall(wrote["bytes"])[4:8])
        elif self._commit is not None:
            for lead in _ID.findall(wrote["bytes"]):
                self.seen.frames.setdefault(lead, (call, self._commit))
            if self._is_last_frame:
                self._commit.last, self._commit = call, None

    def _sent(self, call: Call) -> None:
        """An answer may be sent in pieces, and is sent from the first one on."""
        here = call.file.partition("->")[0].rpartition(":")[2]
        if here not in {str(self._where.storage_port), str(self._where.api_port)}:
            return
        if '"HTTP/1.1 ' in call.arguments:
            self._answers[call.file] = call
        answer = self._answers.get(call.file)
        is_storage = here == str(self._where.storage_port)
        if answer is not None and any(f'"HTTP/1.1 {status} ' in answer.arguments for status in _STATUSES[is_storage]):
            found = self.seen.stored if is_storage else self.seen.answered
            for one in _ID.findall(call.arguments):
                found.setdefault(one, answer)
