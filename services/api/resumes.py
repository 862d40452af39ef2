"""The resume as it streams by: what its name says, what its content is, and whether both are one kind.

Nothing here holds the file or parses a document; the walk over a DOCX's zip is in `docx`. Where the bytes go
is somebody else's business.
"""

import asyncio
import codecs
import re
import unicodedata
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final, Protocol

from services.api.docx import DocxRefused, DocxWalk
from services.api.fields import HIDDEN, INVISIBLE, PERCENT_PASSES, SPACES, percent_decoded
from shared.problems import FieldError, Problem, ProblemType, invalid_fields

RESUME_FIELD: Final = "resume"
"""Name of the form field that carries the file."""

FILENAME_MAX_BYTES: Final = 255
"""Longest display name kept, in UTF-8: what common file systems allow."""

FILENAME_MAX_RAW_CODE_POINTS: Final = 1024
"""How much of a name's end is looked at: room for 255 percent-encoded bytes. Left of it are folders."""

HEAD_BYTES: Final = 1024
"""How much of a file may pass before its signature must have been seen."""

_EXTENSION_MAX_BYTES = 16
_SLASHES = r"/\\\u2044\u2100\u2101\u2105\u2106\u2215\u2216\u29f5\u29f8\u29f9\ufe68\uff0f\uff3c"
_SEPARATOR = re.compile(f"[{_SLASHES}]")
_NOT_IN_A_NAME = re.compile(f"{HIDDEN.pattern}|[{INVISIBLE}]")
_EDGES = SPACES + ".\u2024\u2025\u2026\ufe52\uff0e"
_LEAD = re.compile(rf"\A(?:[A-Za-z]:|[{re.escape(_EDGES)}])+")
_TEXT_C0 = bytes(set(range(0x20)) - set(b"\t\n\f\r")) + b"\x7f"
_TEXT_C1 = re.compile("[\x80-\x9f]")
_ODT_TYPE = b"application/vnd.oasis.opendocument.text"


class ResumeKind(StrEnum):
    """The kinds of file a resume may be, by extension. Which of them are accepted is a setting."""

    PDF = "pdf"
    DOCX = "docx"
    DOC = "doc"
    ODT = "odt"
    RTF = "rtf"
    TXT = "txt"

    @property
    def content_type(self) -> str:
        """The media type the file is stored and served under, whatever the sender claimed."""
        return _CONTENT_TYPES[self]

    @property
    def extension(self) -> str:
        """The file name extension, with its dot."""
        return f".{self.value}"


DEFAULT_KINDS: Final = frozenset({ResumeKind.PDF, ResumeKind.DOCX})
"""What is accepted unless a setting says otherwise."""

_CONTENT_TYPES = {
    ResumeKind.PDF: "application/pdf",
    ResumeKind.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ResumeKind.DOC: "application/msword",
    ResumeKind.ODT: "application/vnd.oasis.opendocument.text",
    ResumeKind.RTF: "application/rtf",
    ResumeKind.TXT: "text/plain; charset=utf-8",
}


class Inspector(Protocol):
    """Judges one file by its content while it streams by. Where the chunks are cut changes nothing."""

    heavy: bool
    """Whether `feed` costs real CPU time, so that it belongs in a thread."""

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes. Raises `Problem` UNSUPPORTED_RESUME as soon as they cannot be this kind."""
        ...

    def finish(self) -> None:
        """The file is over. Raises `Problem` UNSUPPORTED_RESUME if it is not right, INVALID_FIELDS if empty."""
        ...


def clean_filename(raw: str) -> str:
    """The sender's name for the file as we keep and show it: metadata, never a path; empty if nothing is left.

    The last component, for slash and backslash and all that look like them, also where percent-encoding hides
    them, however deep; without drive, dots and spaces at the edges, controls, bidi controls and invisible
    characters; NFC; at most 255 bytes of UTF-8, cut between characters and before the extension. Cleaning twice
    changes nothing. Never raises.
    """
    name = raw[-FILENAME_MAX_RAW_CODE_POINTS:]
    for _ in range(PERCENT_PASSES):
        cleaner = _last_component(_uncovered(name))
        if cleaner == name:
            return _shortened(name)
        name = cleaner
    return _shortened(_last_component(name.replace("%", "_")))


def kind_of(filename: str, allowed: AbstractSet[ResumeKind] = DEFAULT_KINDS) -> ResumeKind:
    """The kind that the last extension of `filename`, a cleaned name, stands for; upper case is fine.

    Raises `Problem` UNSUPPORTED_RESUME, listing what is accepted, where there is none or another.
    """
    stem, _, extension = filename.rpartition(".")
    for kind in allowed:
        if stem and extension.lower() == kind:
            return kind
    names = [kind.upper() for kind in ResumeKind if kind in allowed]
    raise _unsupported(f"Please send your resume as {' or '.join(names)}; its file name must end so too.")


async def inspect(inspector: Inspector, piece: bytes) -> None:
    """Have the next bytes judged, in a thread where that takes time. Raises what `feed` raises."""
    if inspector.heavy:
        await asyncio.to_thread(inspector.feed, piece)
    else:
        inspector.feed(piece)


def inspector_for(kind: ResumeKind) -> Inspector:
    """A fresh inspector for one file of `kind`."""
    if kind is ResumeKind.DOCX:
        return _Docx()
    if kind is ResumeKind.TXT:
        return _Text()
    return _ByHead(kind, _JUDGES[kind])


class _ByHead:
    """A kind known by its first bytes. The judge says yes, no, or None while it has seen too little."""

    heavy = False

    def __init__(self, kind: ResumeKind, judge: Callable[[bytes], bool | None]) -> None:
        self._kind = kind
        self._judge = judge
        self._head = b""
        self._known = False

    def feed(self, chunk: bytes) -> None:
        if self._known:
            return
        self._head += chunk[: HEAD_BYTES - len(self._head)]
        verdict = self._judge(self._head)
        if verdict is False or (verdict is None and len(self._head) == HEAD_BYTES):
            raise _mismatch(self._kind)
        self._known = verdict is True

    def finish(self) -> None:
        if not self._head:
            raise _empty()
        if not self._known:
            raise _mismatch(self._kind)


class _Text:
    """UTF-8 text without controls other than tabs, line ends and form feeds."""

    heavy = False

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._empty = True
        self._refused = False

    def feed(self, chunk: bytes) -> None:
        self._empty = self._empty and not chunk
        self._read(chunk, final=False)

    def finish(self) -> None:
        if self._empty:
            raise _empty()
        self._read(b"", final=True)

    def _read(self, chunk: bytes, *, final: bool) -> None:
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            self._refused = True
        else:
            c0 = len(chunk.translate(None, _TEXT_C0)) < len(chunk)
            c1 = not text.isascii() and _TEXT_C1.search(text)
            self._refused = self._refused or c0 or bool(c1)
        if self._refused:
            raise _unsupported("This is not plain text in UTF-8. Save it as UTF-8 text, or as PDF.")


class _Docx:
    """A DOCX, walked by `docx`; its refusals become problems here."""

    heavy = True

    def __init__(self) -> None:
        self._walk = DocxWalk()
        self._empty = True

    def feed(self, chunk: bytes) -> None:
        self._empty = self._empty and not chunk
        try:
            self._walk.feed(chunk)
        except DocxRefused as refusal:
            raise _unsupported(str(refusal)) from refusal

    def finish(self) -> None:
        if self._empty:
            raise _empty()
        try:
            self._walk.finish()
        except DocxRefused as refusal:
            raise _unsupported(str(refusal)) from refusal


def _starts(head: bytes, magic: bytes) -> bool | None:
    return head.startswith(magic) or (None if magic.startswith(head) else False)


def _is_pdf(head: bytes) -> bool | None:
    """`%PDF-` at the very start, after at most a BOM and white space.

    Readers look for it anywhere in the first 1,024 bytes (ISO 32000-1, annex H.3.4.1, note 13). That leniency is
    what lets a web page or a program be a PDF as well, so we do not follow it.
    """
    if head in (codecs.BOM_UTF8[:1], codecs.BOM_UTF8[:2]):
        return None
    return _starts(head.removeprefix(codecs.BOM_UTF8).lstrip(b"\t\n\f\r "), b"%PDF-")


def _is_doc(head: bytes) -> bool | None:
    """The OLE2 signature ([MS-CFB], 2.2). Old spreadsheets share it; to tell them apart we would have to parse."""
    return _starts(head, bytes.fromhex("d0cf11e0a1b11ae1"))


def _is_rtf(head: bytes) -> bool | None:
    return _starts(head, rb"{\rtf")


def _is_odt(head: bytes) -> bool | None:
    """A zip that starts with a stored entry `mimetype`, without extra field: text (ODF 1.2 part 3, 3.3)."""
    start = _starts(head, b"PK\x03\x04")
    if not start:
        return start
    end = 38 + len(_ODT_TYPE)
    if len(head) < end + 2:
        return None
    lengths = head[8:10] == b"\0\0" and head[26:30] == b"\x08\0\0\0"
    return lengths and head[30:end] == b"mimetype" + _ODT_TYPE and head[end : end + 2] == b"PK"


_JUDGES: dict[ResumeKind, Callable[[bytes], bool | None]] = {
    ResumeKind.PDF: _is_pdf,
    ResumeKind.DOC: _is_doc,
    ResumeKind.ODT: _is_odt,
    ResumeKind.RTF: _is_rtf,
}


def _uncovered(name: str) -> str:
    """`name`, percent-decoded only where that brings out what must go: otherwise a `%` is just a `%`."""
    decoded = percent_decoded(name)
    if decoded is None:
        return name.replace("%", "_")
    return decoded if _SEPARATOR.search(decoded) or _NOT_IN_A_NAME.search(decoded) else name


def _last_component(text: str) -> str:
    return next(filter(None, map(_tidy, reversed(_SEPARATOR.split(text)))), "")


def _tidy(part: str) -> str:
    visible = unicodedata.normalize("NFC", _NOT_IN_A_NAME.sub("", part))
    return _LEAD.sub("", visible).rstrip(_EDGES)


def _shortened(name: str) -> str:
    if len(name.encode()) <= FILENAME_MAX_BYTES:
        return name
    stem, _, extension = name.rpartition(".")
    tail = f".{extension}" if stem and len(extension.encode()) <= _EXTENSION_MAX_BYTES else ""
    body = name.removesuffix(tail).encode()[: FILENAME_MAX_BYTES - len(tail.encode())]
    return body.decode(errors="ignore").rstrip(_EDGES) + tail


def _mismatch(kind: ResumeKind) -> Problem:
    return _unsupported(f"The file is named {kind.extension}, but what is in it is not {kind.upper()}.")


def _unsupported(detail: str) -> Problem:
    return Problem(ProblemType.UNSUPPORTED_RESUME, detail)


def _empty() -> Problem:
    return invalid_fields(FieldError(RESUME_FIELD, "The file is empty. Please choose it again."))
