"""The form of an intake request, read part by part as its bytes come (RFC 7578). Nothing here waits or does I/O.

`python_multipart`'s parser is driven directly: a form parser on top of it would keep or spool the file. The text fields
are kept, being small; the resume's bytes are handed on.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.api.applicants import TEXT_FIELDS, Applicant, clean_applicant
from services.api.resumes import Inspector, ResumeKind, clean_filename, inspector_for, kind_of
from shared.problems import FieldError, Problem, ProblemType, invalid_fields

RESUME_FIELD = "resume"
TEXT_MAX_BYTES = 4096
FORM_ALLOWANCE_BYTES = 64 * 1024
"""What a body may hold beside the resume: three short fields, the part headers and the boundaries."""

MAX_PARTS = 8
MAX_PART_HEADERS = 8
PART_HEADER_MAX_BYTES = 4096
EPILOGUE_MAX_BYTES = 1024
NAME_SHOWN_MAX = 64

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_EXTENDED_FILENAME = re.compile(rb'("(?:[^"\\]|\\.)*")|;[ \t]*filename\*[ \t]*=[^;"]*', re.IGNORECASE)
"""Quoted strings are matched to be kept: what stands in them is no parameter."""

_PARAMETER = re.compile(rb";[ \t]*([^=; \t]+)[ \t]*=")
_OPENINGS = (b"--", b"\r\n--")
_PLAIN_TRANSFER = frozenset({b"7bit", b"8bit", b"binary"})


@dataclass(frozen=True)
class UploadRules:
    """What is accepted: the resume's size and its kinds."""

    resume_max_bytes: int
    kinds: frozenset[ResumeKind]

    @property
    def body_max_bytes(self) -> int:
        """The most that a whole request may hold."""
        return self.resume_max_bytes + FORM_ALLOWANCE_BYTES


@dataclass
class _Part:
    """The part that is being read."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    text_name: str | None = None
    """The field it is, for a text; empty for a part that is at fault and passed over."""


class FormReader:
    """Feed it the body; it gives back the resume's bytes, and in the end the applicant.

    Every method raises `Problem`: 400 malformed, 413 too large, 415 another kind of file, 422 a field at fault.
    """

    def __init__(self, content_type: str | None, rules: UploadRules) -> None:
        self._rules = rules
        self._boundary = _boundary_of(content_type)
        self._end = b"\r\n--" + self._boundary + b"--"
        self._parser = self._new_parser()
        self._part = _Part()
        self._parts = 0
        self._opening = b""
        self._tail = b"\r\n"
        """The last bytes read, in which the end of the form may have begun. It may begin with the body, too."""
        self._ended = False
        self._epilogue_bytes = 0
        self._texts: dict[str, bytearray] = {}
        self._faults: list[FieldError] = []
        self._pieces: list[bytes] = []
        self.inspector: Inspector | None = None
        """Judges the resume's bytes; None until its part has begun."""
        self.filename = ""
        self.kind: ResumeKind | None = None
        self.resume_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Read the next bytes of the body; gives back those that belong to the resume."""
        self._check_preamble(chunk)
        was_ended = self._ended
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise malformed("its parts are not put together as RFC 7578 says") from None
        self._count_epilogue(chunk, was_ended)
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> Applicant:
        """The body has ended: was it whole, and is every field right? Names all that are not."""
        if not self._ended:
            raise malformed("it stops before its end")
        errors = list(self._faults)
        applicant = clean_applicant(self._texts, errors)
        if self.inspector is None:
            errors.append(FieldError(RESUME_FIELD, "Attach your resume as a file."))
        if errors or applicant is None:
            raise invalid_fields(*errors)
        if self.inspector is not None:
            self.inspector.finish()
        return applicant

    def _check_preamble(self, chunk: bytes) -> None:
        """RFC 2046 allows text before the first boundary; no client sends it, so it is only ever an attack."""
        if len(self._opening) < len(_OPENINGS[-1]):
            self._opening += chunk[: len(_OPENINGS[-1]) - len(self._opening)]
            if not any(self._opening[: len(one)] == one[: len(self._opening)] for one in _OPENINGS):
                raise malformed("it does not begin with its boundary")

    def _count_epilogue(self, chunk: bytes, was_ended: bool) -> None:  # noqa: FBT001
        end = self._end
        if was_ended:
            self._epilogue_bytes += len(chunk)
        elif self._ended:
            read = self._tail + chunk
            self._epilogue_bytes = len(read) - read.index(end) - len(end)
        else:
            self._tail = (self._tail + chunk[-len(end) :])[-len(end) :]
        if self._epilogue_bytes > EPILOGUE_MAX_BYTES:
            raise malformed("it goes on after its end")

    # What the parser calls, part by part.

    def _new_parser(self) -> MultipartParser:
        return MultipartParser(
            self._boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=PART_HEADER_MAX_BYTES,
        )

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise malformed(f"it has more than {MAX_PARTS} parts")
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _on_header_end(self) -> None:
        name = bytes(self._part.header_name).lower()
        if name in self._part.headers:
            raise malformed("a part has the same header twice")
        self._part.headers[name] = bytes(self._part.header_value)
        self._part.header_name.clear()
        self._part.header_value.clear()

    def _on_headers_finished(self) -> None:
        name, filename = _disposition(self._part.headers.get(b"content-disposition", b""))
        if self._part.headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_TRANSFER:
            raise malformed("a part is encoded, which form data is not (RFC 7578, section 4.7)")
        if name == RESUME_FIELD:
            self._begin_resume(filename)
        else:
            self._begin_text(name, filename)

    def _begin_resume(self, filename: str | None) -> None:
        if filename is None:
            raise invalid_fields(FieldError(RESUME_FIELD, "Attach your resume as a file."))
        if self.inspector is not None:
            raise invalid_fields(*self._faults, FieldError(RESUME_FIELD, "Send exactly one file."))
        self.filename = clean_filename(filename)
        self.kind = kind_of(self.filename, self._rules.kinds)
        self.inspector = inspector_for(self.kind)

    def _begin_text(self, name: str, filename: str | None) -> None:
        self._part.text_name = ""
        if name not in TEXT_FIELDS:
            shown = name if name.isprintable() and len(name) <= NAME_SHOWN_MAX else "unknown"
            self._faults.append(FieldError(shown, "This field is not known here."))
        elif filename is not None:
            self._faults.append(FieldError(name, "This field is text, not a file."))
        elif name in self._texts:
            self._faults.append(FieldError(name, "Send this field once."))
        else:
            self._texts[name] = bytearray()
            self._part.text_name = name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.text_name is None:
            self._take_resume_bytes(data[start:end])
        elif self._part.text_name:
            self._take_text(self._part.text_name, data[start:end])

    def _take_text(self, name: str, piece: bytes) -> None:
        self._texts[name] += piece
        if len(self._texts[name]) > TEXT_MAX_BYTES:
            raise invalid_fields(*self._faults, FieldError(name, "This is far too long."))

    def _take_resume_bytes(self, piece: bytes) -> None:
        if self._faults:
            raise invalid_fields(*self._faults)
        self.resume_bytes += len(piece)
        if self.resume_bytes > self._rules.resume_max_bytes:
            raise too_large(self._rules)
        self._pieces.append(piece)

    def _on_end(self) -> None:
        self._ended = True


def malformed(why: str) -> Problem:
    """The 400 that says what is wrong with the form as such."""
    return Problem(ProblemType.MALFORMED_MULTIPART, f"The form cannot be read: {why}.")


def too_large(rules: UploadRules) -> Problem:
    """The 413 that names the limit. The connection is closed: what would follow is not wanted."""
    detail = f"The resume may have at most {rules.resume_max_bytes / (1024 * 1024):g} MiB."
    return Problem(ProblemType.BODY_TOO_LARGE, detail, headers={"Connection": "close"})


def _boundary_of(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        detail = "Send the form as multipart/form-data with first_name, last_name, email and the file resume."
        raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, detail)
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise malformed("its Content-Type names no usable boundary")
    return boundary


@lru_cache(64)
def _disposition(value: bytes) -> tuple[str, str | None]:
    """Name and file name of a part.

    Extended forms (`name*=`) are refused, as two readers might read two names. Only a `filename*` that repeats a plain
    `filename` is passed over: .NET sends both, though RFC 7578, section 4.2, says not to.
    """
    given = [name.lower() for name in _PARAMETER.findall(_QUOTED.sub(b"", value))]
    if len(given) > len(set(given)):
        raise malformed("a part names its field or its file twice")
    if b"filename" in given:
        given = [name for name in given if name != b"filename*"]
        value = _EXTENDED_FILENAME.sub(rb"\1", value)
    if any(b"*" in name for name in given):
        raise malformed("a part has an extended parameter, which form data may not have (RFC 7578, section 4.2)")
    kind, options = parse_options_header(value)
    if kind != b"form-data" or b"name" not in options:
        raise malformed("a part does not say which field it is")
    try:
        filename = options.get(b"filename")
        return options[b"name"].decode(), None if filename is None else filename.decode()
    except UnicodeDecodeError:
        raise malformed("a part's name is not UTF-8") from None
