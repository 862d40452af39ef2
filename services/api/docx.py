"""Whether bytes that stream by are a DOCX, told by one sequential walk over its zip (PKWARE APPNOTE.TXT 6.3).

Every entry is inflated and counted, never kept, so neither sizes nor ratios can lie. Then the central directory
must describe exactly what was walked, so no reader can see another archive than we did. XML is never parsed,
and what is inside an entry (a picture, an embedded sheet) is not looked at.
"""

import re
import struct
import zlib
from collections.abc import Generator, Iterator
from typing import Final, NamedTuple

MAX_ENTRIES: Final = 1_000
"""Most entries in one DOCX; Word writes some dozens."""

MAX_UNPACKED_BYTES: Final = 50 * 1024 * 1024
"""Most bytes that all entries may unpack to together."""

MAX_RATIO: Final = 100
"""Most unpacked bytes per packed byte of one entry above the floor. Deflate itself ends at 1,032."""

RATIO_FLOOR_BYTES: Final = 1024 * 1024
"""Up to here an entry may have any ratio: a long run of blanks packs well and harms nobody."""

NAME_MAX_BYTES: Final = 1024
"""Longest entry name, so that 1,000 of them stay a small thing to remember."""

_PIECE_BYTES = 16 * 1024
_OUTPUT_BYTES = 64 * 1024
_LOCAL_SIGN, _LOCAL = b"PK\x03\x04", struct.Struct("<4x5H3I2H")
_CENTRAL_SIGN, _CENTRAL = b"PK\x01\x02", struct.Struct("<4x6H3I5H2I")
_END64_SIGN, _END64 = b"PK\x06\x06", struct.Struct("<4xQ2H2I4Q")
_LOCATOR_SIGN, _LOCATOR = b"PK\x06\x07", struct.Struct("<4sIQI")
_END_SIGN, _END = b"PK\x05\x06", struct.Struct("<4s4H2IH")
_DESCRIPTOR_SIGN, _OLE2_SIGN = b"PK\x07\x08", bytes.fromhex("d0cf11e0")
_DESCRIPTOR_FLAG = 1 << 3
_PATCHED_FLAG = 1 << 5
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_STORED, _DEFLATED = 0, 8
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_VERSION_MAX, _ZIP64_EXTRA, _EXTRA_FIELDS_MAX = 63, 1, 64
_Facts = tuple[int, int, int]  # of an entry's data: CRC-32, packed bytes, unpacked bytes; as we counted them

_UNSAFE_NAME = re.compile(rb"[\x00-\x1f\x7f]|\A[/\\]|(?:\A|[/\\])\.\.(?:[/\\]|\Z)")
_TYPES_PART = b"[content_types].xml"
_MAIN_PART = re.compile(rb"word/document[0-9]*\.xml")

_NOT_DOCX = "The file is named .docx, but what is in it is not a Word document."
_PROTECTED = "This file has a password or is an old .doc. Please save it as DOCX or PDF without a password."
_DAMAGED = "This DOCX is damaged or incomplete. Please save it again, or send a PDF."
_TOO_BIG = "This DOCX unpacks to more than we accept. Please send it as PDF."


class DocxRefused(Exception):  # noqa: N818 - a verdict, not a fault
    """These bytes are not a DOCX that we take. The message is for the person who sent it."""


class _Entry(NamedTuple):
    """One entry as walked; its header in the central directory must say the same."""

    name: bytes
    method: int
    facts: _Facts


class _Stream:
    """Bytes that have arrived and are not read yet. Asking for more suspends the walk until they come."""

    def __init__(self) -> None:
        self.position = 0
        self._pending = bytearray()

    def push(self, chunk: bytes) -> None:
        self._pending += chunk

    def skip(self, size: int) -> None:
        del self._pending[:size]
        self.position += size

    def peek(self, size: int) -> Generator[None, None, bytes]:
        while len(self._pending) < size:
            yield
        return bytes(self._pending[:size])

    def read(self, size: int) -> Generator[None, None, bytes]:
        data = yield from self.peek(size)
        self.skip(size)
        return data

    def peek_some(self, limit: int) -> Generator[None, None, bytes]:
        """What is here, at least one byte and at most `limit`."""
        yield from self.peek(1)
        return bytes(self._pending[:limit])


class DocxWalk:
    """One walk over one file. Feed it the chunks in order, cut anywhere, then finish."""

    def __init__(self) -> None:
        self._stream = _Stream()
        self._names: set[bytes] = set()
        self._entries: dict[int, _Entry] = {}
        self._unpacked_bytes = 0
        self._complete = False
        self._refusal: DocxRefused | None = None
        self._steps = self._walk()

    def feed(self, chunk: bytes) -> None:
        """Walk on as far as `chunk` reaches. Raises `DocxRefused` once this cannot be a good DOCX."""
        if self._refusal:
            raise self._refusal
        self._stream.push(chunk)
        try:
            next(self._steps)
        except DocxRefused as refusal:
            self._refusal = refusal
            raise

    def finish(self) -> None:
        """The file is over. Raises `DocxRefused` unless the archive came to its end exactly here."""
        if self._refusal:
            raise self._refusal
        if not self._complete:
            raise DocxRefused(_DAMAGED if self._stream.position else _NOT_DOCX)

    def _walk(self) -> Generator[None, None, None]:
        start = yield from self._stream.peek(4)
        if start != _LOCAL_SIGN:
            raise DocxRefused(_PROTECTED if start == _OLE2_SIGN else _NOT_DOCX)
        while (yield from self._stream.peek(4)) == _LOCAL_SIGN:
            yield from self._entry()
        if _TYPES_PART not in self._names or not any(map(_MAIN_PART.fullmatch, self._names)):
            raise DocxRefused(_NOT_DOCX)
        yield from self._directory()
        self._complete = True
        yield from self._stream.peek(1)
        raise DocxRefused(_DAMAGED)

    def _entry(self) -> Generator[None, None, None]:
        offset = self._stream.position
        header = _LOCAL.unpack((yield from self._stream.read(_LOCAL.size)))
        version, flags, method, _, _, crc32, packed, unpacked, name_bytes, extra_bytes = header
        _check_way(version, flags, method)
        name = yield from self._name(name_bytes)
        extra = yield from self._stream.read(extra_bytes)
        if flags & _DESCRIPTOR_FLAG:
            facts = yield from self._inflated(None, MAX_UNPACKED_BYTES - self._unpacked_bytes)
            yield from self._descriptor(facts)
            # Zero and zip64's placeholder say nothing; a writer that says more than that must be right.
            said = zip((crc32, packed, unpacked), facts, strict=True)
            same = all(claim in (0, _U32, fact) for claim, fact in said)
        else:
            unpacked, packed = _widened((unpacked, packed), extra)
            self._check_bulk(packed, unpacked)
            stored = method == _STORED
            facts = yield from (self._stored(packed) if stored else self._inflated(packed, unpacked))
            same = facts == (crc32, packed, unpacked)
        if not same:
            raise DocxRefused(_DAMAGED)
        self._check_bulk(*facts[1:])
        self._unpacked_bytes += facts[2]
        self._entries[offset] = _Entry(name, method, facts)

    def _name(self, size: int) -> Generator[None, None, bytes]:
        if len(self._names) == MAX_ENTRIES:
            raise DocxRefused(_TOO_BIG)
        if not 0 < size <= NAME_MAX_BYTES:
            raise DocxRefused(_DAMAGED)
        name = yield from self._stream.read(size)
        # Part names differ by more than case (ECMA-376-2, 6.2.2.3); else this would be two documents in one.
        if name.lower() in self._names or _UNSAFE_NAME.search(name):
            raise DocxRefused(_DAMAGED)
        self._names.add(name.lower())
        return name

    def _stored(self, size: int) -> Generator[None, None, _Facts]:
        crc32 = walked = 0
        while walked < size:
            piece = yield from self._stream.peek_some(min(size - walked, _PIECE_BYTES))
            crc32 = zlib.crc32(piece, crc32)
            walked += len(piece)
            self._stream.skip(len(piece))
        return crc32, walked, walked

    def _inflated(self, size: int | None, room: int) -> Generator[None, None, _Facts]:
        """Inflate one entry of `size` packed bytes, or up to where deflate ends it, to at most `room` bytes."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        crc32 = packed = unpacked = 0
        while not inflater.eof and packed != size:
            limit = _PIECE_BYTES if size is None else min(size - packed, _PIECE_BYTES)
            piece = yield from self._stream.peek_some(limit)
            for output in _outputs(inflater, piece):
                crc32 = zlib.crc32(output, crc32)
                unpacked += len(output)
                if unpacked > room:
                    raise DocxRefused(_TOO_BIG)
            used = len(piece) - len(inflater.unused_data)
            self._stream.skip(used)
            packed += used
        if size and (packed != size or not inflater.eof):
            raise DocxRefused(_DAMAGED)
        return crc32, packed, unpacked

    def _check_bulk(self, packed: int, unpacked: int) -> None:
        steep = unpacked > RATIO_FLOOR_BYTES and unpacked > MAX_RATIO * packed
        if steep or self._unpacked_bytes + unpacked > MAX_UNPACKED_BYTES:
            raise DocxRefused(_TOO_BIG)

    def _descriptor(self, facts: _Facts) -> Generator[None, None, None]:
        """The facts after the data (APPNOTE 4.3.9). Nothing says in which of four forms, so we try them all."""
        narrow = struct.pack("<3I", *(fact & _U32 for fact in facts))
        wide = struct.pack("<I2Q", *facts)
        ahead = yield from self._stream.peek(len(_DESCRIPTOR_SIGN + wide))
        for form in (_DESCRIPTOR_SIGN + wide, _DESCRIPTOR_SIGN + narrow, wide, narrow):
            if ahead.startswith(form):
                self._stream.skip(len(form))
                return
        raise DocxRefused(_DAMAGED)

    def _directory(self) -> Generator[None, None, None]:
        count, start = len(self._entries), self._stream.position
        while (yield from self._stream.peek(4)) == _CENTRAL_SIGN:
            yield from self._listed()
        if self._entries:
            raise DocxRefused(_DAMAGED)
        yield from self._end(count, self._stream.position - start, start)

    def _listed(self) -> Generator[None, None, None]:
        """One header of the central directory, which takes the entry that it describes off the list."""
        header = _CENTRAL.unpack((yield from self._stream.read(_CENTRAL.size)))
        version, flags, method, _, _, crc32, packed, unpacked = header[1:9]
        name_bytes, extra_bytes, comment_bytes, disk, _, _, offset = header[9:]
        name = yield from self._stream.read(name_bytes)
        extra = yield from self._stream.read(extra_bytes)
        yield from self._stream.read(comment_bytes)
        _check_way(version, flags, method)
        unpacked, packed, offset = _widened((unpacked, packed, offset), extra)
        listed = _Entry(name, method, (crc32, packed, unpacked))
        if disk or self._entries.pop(offset, None) != listed:
            raise DocxRefused(_DAMAGED)

    def _end(self, count: int, size: int, start: int) -> Generator[None, None, None]:
        """The end record, and zip64's before it. No comment: readers that search from the end start in it."""
        wide = (yield from self._stream.peek(4)) == _END64_SIGN
        if wide:
            here = self._stream.position
            end64 = _END64.unpack((yield from self._stream.read(_END64.size)))
            locator = _LOCATOR.unpack((yield from self._stream.read(_LOCATOR.size)))
            same = end64[3:] == (0, 0, count, count, size, start) and end64[0] == _END64.size - 12
            if not same or locator not in ((_LOCATOR_SIGN, 0, here, 1), (_LOCATOR_SIGN, 0, here, 0)):
                raise DocxRefused(_DAMAGED)
        said = _END.unpack((yield from self._stream.read(_END.size)))
        true = (_END_SIGN, 0, 0, count, count, size, start, 0)
        vague = (None, _U16, _U16, _U16, _U16, _U32, _U32, None)
        if not all(s == t or (wide and s == v) for s, t, v in zip(said, true, vague, strict=True)):
            raise DocxRefused(_DAMAGED)


def _check_way(version: int, flags: int, method: int) -> None:
    """Refuse entries that are packed in a way we cannot follow, or whose end nothing marks."""
    if flags & _ENCRYPTED_FLAGS:
        raise DocxRefused(_PROTECTED)
    followable = method == _DEFLATED or (method == _STORED and not flags & _DESCRIPTOR_FLAG)
    if not followable or flags & _PATCHED_FLAG or version & 0xFF > _VERSION_MAX:
        raise DocxRefused(_DAMAGED)


def _outputs(inflater: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    """What `piece` inflates to, a bounded output at a time."""
    try:
        output = inflater.decompress(piece, _OUTPUT_BYTES)
        while output:
            yield output
            # At the end the tail is what follows the entry; zlib would take it for unused data twice.
            output = b"" if inflater.eof else inflater.decompress(inflater.unconsumed_tail, _OUTPUT_BYTES)
    except zlib.error:
        raise DocxRefused(_DAMAGED) from None


def _widened(values: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """`values` with each placeholder replaced by the next number of the zip64 extra field (APPNOTE 4.5.3)."""
    numbers = _zip64_numbers(extra)
    if len(numbers) < values.count(_U32):
        raise DocxRefused(_DAMAGED)
    return tuple(numbers.pop(0) if value == _U32 else value for value in values)


def _zip64_numbers(extra: bytes) -> list[int]:
    at = 0
    for _ in range(_EXTRA_FIELDS_MAX):
        if at + 4 > len(extra):
            return []
        kind, size = struct.unpack_from("<2H", extra, at)
        at += 4 + size
        if at > len(extra):
            raise DocxRefused(_DAMAGED)
        if kind == _ZIP64_EXTRA:
            return list(struct.unpack_from(f"<{size // 8}Q", extra, at - size))
    raise DocxRefused(_DAMAGED)
