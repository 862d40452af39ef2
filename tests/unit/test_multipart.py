"""The form reader: one verdict for one body however it is cut, limits, and parts that two readers might read as two."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.multipart import (
    EPILOGUE_MAX_BYTES,
    MAX_PART_HEADERS,
    MAX_PARTS,
    PART_HEADER_MAX_BYTES,
    TEXT_MAX_BYTES,
    Applicant,
    FormReader,
    UploadRules,
)
from services.api.resumes import ResumeKind
from shared.problems import FieldError, Problem, ProblemType
from tests.harness.raw_http import BOUNDARY, Part, form

RULES = UploadRules(2000, frozenset({ResumeKind.PDF, ResumeKind.TXT}))
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
RESUME = b"%PDF-1.4 and more"
LINE = b"--" + BOUNDARY.encode()


@dataclass(frozen=True)
class Verdict:
    """What became of a body: a refusal, or an applicant and a resume."""

    refused: tuple[ProblemType, str, tuple[FieldError, ...]] | None = None
    applicant: Applicant | None = None
    resume: bytes = b""
    filename: str = ""


def lead(*more: Part, resume: bytes = RESUME, filename: str = "cv.pdf") -> list[Part]:
    texts = [Part("first_name", b"Ann"), Part("last_name", b"Lee"), Part("email", b"ann@people.test")]
    return [*texts, Part("resume", resume, filename), *more]


def with_disposition(value: bytes) -> bytes:
    return form([*lead()[:3], Part("", RESUME, disposition=b"Content-Disposition: " + value)])


def read(chunks: Iterable[bytes], content_type: str | None = TYPE) -> Verdict:
    """The verdict on a body that comes in these chunks. The resume is judged at the end, as one piece."""
    try:
        reader = FormReader(content_type, RULES)
        resume = b"".join(piece for chunk in chunks for piece in reader.feed(chunk))
        if reader.inspector is not None:
            reader.inspector.feed(resume)
        return Verdict(applicant=reader.finish(), resume=resume, filename=reader.filename)
    except Problem as problem:
        return Verdict(refused=(problem.type, problem.detail, problem.errors))


def refusal(body: bytes, content_type: str | None = TYPE) -> ProblemType:
    """Why the body is refused; the same whole and byte by byte."""
    verdict = read([body], content_type)
    assert verdict == read(bytewise(body), content_type)
    assert verdict.refused is not None
    return verdict.refused[0]


def faults(body: bytes) -> list[str]:
    """The fields that the refusal of the body names."""
    verdict = read([body])
    assert verdict == read(bytewise(body))
    assert verdict.refused is not None
    assert verdict.refused[0] is ProblemType.INVALID_FIELDS
    return [error.field for error in verdict.refused[2]]


def bytewise(body: bytes) -> list[bytes]:
    return [body[n : n + 1] for n in range(len(body))]


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges) if b > a]


def test_a_good_form_is_read() -> None:
    verdict = read([form(lead())])
    assert verdict.applicant is not None
    assert verdict.applicant.first_name == "Ann"
    assert verdict.applicant.email.address == "ann@people.test"
    assert (verdict.resume, verdict.filename) == (RESUME, "cv.pdf")


def test_a_resume_may_hold_what_looks_like_a_boundary() -> None:
    resume = RESUME + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n-" + LINE + b"\r--\n"
    verdict = read(bytewise(form(lead(resume=resume))))
    assert verdict.resume == resume


_NAMES = st.sampled_from(["first_name", "last_name", "email", "resume", "state", "", "na\tme"])
_CONTENT = st.one_of(
    st.sampled_from(
        [b"Ann", b"ann@people.test", RESUME, b"\r\n", b"\r\n--", LINE, b"\r\n" + LINE, b"\r\n" + LINE + b"-"]
    ),
    st.binary(max_size=40),
)
_PARTS = st.builds(Part, _NAMES, _CONTENT, st.none() | st.sampled_from(["cv.pdf", "cv.txt", "", "x\\", "a%22.pdf"]))
_PLACES = st.lists(st.integers(min_value=0, max_value=5000), max_size=6)
_JUNK = st.sampled_from([b"", b"\r\n", b"\r", b"-", b"x", b"\r\n\r\n", b" ", b"--", b"\r\n" + LINE + b"--"])


@settings(max_examples=300, deadline=None)
@given(st.lists(_PARTS, max_size=5) | _PARTS.map(lead), _JUNK, _JUNK, _PLACES)
def test_a_body_gets_one_verdict_however_it_is_cut(
    parts: list[Part], before: bytes, behind: bytes, places: list[int]
) -> None:
    body = before + form(parts) + behind
    whole = read([body])
    assert read(bytewise(body)) == whole
    assert read(cut(body, places)) == whole


@settings(max_examples=200, deadline=None)
@given(_PLACES, st.binary(max_size=4), st.integers(0, 10), _PLACES)
def test_a_spoilt_body_gets_one_verdict_however_it_is_cut(
    where: list[int], bytes_: bytes, dropped: int, places: list[int]
) -> None:
    body = form(lead())
    for place in where:
        at = place % len(body)
        body = body[:at] + bytes_ + body[at + dropped :]
    whole = read([body])
    assert read(bytewise(body)) == whole
    assert read(cut(body, places)) == whole


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_comes_is_an_applicant_or_a_problem(body: bytes) -> None:
    assert read([body]) == read(bytewise(body))


def test_every_field_at_fault_is_named_at_once() -> None:
    parts = [Part("state", b"x"), Part("first_name", b""), Part("email", b"a"), Part("email", b"b")]
    assert faults(form(parts)) == ["state", "email", "first_name", "last_name", "resume"]


def test_a_field_at_fault_before_the_resume_stops_it_at_its_first_byte() -> None:
    reader = FormReader(TYPE, RULES)
    body = form([Part("state", b"x"), *lead()])
    before = body.index(RESUME)
    assert reader.feed(body[:before]) == []
    with pytest.raises(Problem) as refused:
        reader.feed(body[before : before + 1])
    assert [error.field for error in refused.value.errors] == ["state"]


@pytest.mark.parametrize("name", ["id", "state", "storage_key", "resume2", "Email"])
def test_a_field_that_is_not_known_is_named(name: str) -> None:
    assert faults(form(lead(Part(name, b"x")))) == [name]


@pytest.mark.parametrize("name", ["x" * 65, "a\x01b", "a\u202eb"])
def test_a_name_that_should_not_be_shown_is_not(name: str) -> None:
    assert faults(form(lead(Part(name, b"x")))) == ["unknown"]


@pytest.mark.parametrize("part", [Part("email", b"b@people.test"), Part("resume", RESUME, "b.pdf")])
def test_a_field_is_sent_once(part: Part) -> None:
    assert faults(form(lead(part))) == [part.name]


@pytest.mark.parametrize("part", [Part("email", b"a@b.test", "a.txt"), Part("resume", RESUME)])
def test_text_is_text_and_a_file_is_a_file(part: Part) -> None:
    parts = [one for one in lead() if one.name != part.name]
    assert faults(form([*parts, part])) == [part.name]


def test_so_many_parts_and_no_more() -> None:
    parts = [Part(f"x{n}", b"") for n in range(MAX_PARTS)]
    assert len(faults(form(parts))) == MAX_PARTS + 4
    assert refusal(form([*parts, Part("y", b"")])) is ProblemType.MALFORMED_MULTIPART


def test_so_many_headers_and_no_more() -> None:
    headers = [b"X-%d: y" % n for n in range(MAX_PART_HEADERS)]
    assert faults(form(lead(Part("x", b"", headers=headers[:-1])))) == ["x"]
    assert refusal(form(lead(Part("x", b"", headers=headers)))) is ProblemType.MALFORMED_MULTIPART


def test_a_part_header_so_long_and_no_longer() -> None:
    longest = b"X: " + b"a" * (PART_HEADER_MAX_BYTES - 3)
    assert faults(form(lead(Part("x", b"", headers=[longest])))) == ["x"]
    assert refusal(form(lead(Part("x", b"", headers=[longest + b"a"])))) is ProblemType.MALFORMED_MULTIPART


def test_a_text_so_long_and_no_longer() -> None:
    for size, detail in ((TEXT_MAX_BYTES, "This is too long"), (TEXT_MAX_BYTES + 1, "This is far too long")):
        verdict = read([form([Part("last_name", b"x" * size), Part("first_name", b"Ann")])])
        assert verdict.refused is not None
        assert verdict.refused[2][0].detail.startswith(detail)


def test_a_resume_so_long_and_no_longer() -> None:
    whole = RESUME + bytes(RULES.resume_max_bytes - len(RESUME))
    assert read([form(lead(resume=whole))]).resume == whole
    assert refusal(form(lead(resume=whole + b"x"))) is ProblemType.BODY_TOO_LARGE


def test_an_epilogue_so_long_and_no_longer() -> None:
    body = form(lead())[:-2]
    assert read([body + b"x" * EPILOGUE_MAX_BYTES]).applicant
    assert refusal(body + b"x" * (EPILOGUE_MAX_BYTES + 1)) is ProblemType.MALFORMED_MULTIPART
    hidden = body + b"x" * EPILOGUE_MAX_BYTES + b"\r\n" + LINE + b"--"
    assert refusal(hidden) is ProblemType.MALFORMED_MULTIPART


@pytest.mark.parametrize("preamble", [b"x", b"\r\n\r\n", b" ", b"This is a message in MIME format.\r\n", b"\n"])
def test_nothing_stands_before_the_first_boundary(preamble: bytes) -> None:
    assert refusal(preamble + form(lead())) is ProblemType.MALFORMED_MULTIPART


def test_but_a_line_end_may() -> None:
    assert read(bytewise(b"\r\n" + form(lead()))).applicant


@pytest.mark.parametrize("left", [0, 1, 2, 30, 80])
def test_half_a_form_is_none(left: int) -> None:
    body = form(lead())[: -4 - left]
    assert refusal(body) is ProblemType.MALFORMED_MULTIPART


@pytest.mark.parametrize(
    "value",
    [
        b"form-data; name=\"resume\"; filename*=utf-8''a.pdf",
        b"form-data; name=\"resume\"; filename=\"a.pdf\"; filename*=utf-8''a.pdf; filename*=utf-8''b.pdf",
        b'form-data; name="resume"; filename="a.pdf"; filename*0*=utf-8\'\'b.pdf',
        b"form-data; name*=utf-8''resume; filename=\"a.pdf\"",
        b'form-data; name="resume"; filename*0="a"; filename*1=".pdf"',
        b'form-data; name="resume"; filename="a.pdf"; filename="b.exe"',
        b'form-data; name="resume"; filename="a.pdf"; FileName = "b.exe"',
        b'form-data; name="email"; name="resume"; filename="a.pdf"',
        b'form-data;name="email";name="resume";filename="a.pdf"',
        b'attachment; name="resume"; filename="a.pdf"',
        b'form-data; filename="a.pdf"',
        b'form-data; name="\xff"; filename="a.pdf"',
        b"form-data",
        b"",
    ],
)
def test_a_part_that_can_be_read_in_two_ways_is_not_read(value: bytes) -> None:
    assert refusal(with_disposition(value)) is ProblemType.MALFORMED_MULTIPART


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        (b'"a;b.pdf"', "a;b.pdf"),
        (b'"a*b.pdf"', "a*b.pdf"),
        (b'"a; filename=b.pdf"', "a; filename=b.pdf"),
        (b"a.pdf; filename*=utf-8''evil.html", "a.pdf"),
        (b"\"a.pdf\"; FileName* = utf-8''evil.html", "a.pdf"),
        (b"\"a; filename*=x.pdf\"; filename*=utf-8''evil.html", "a; filename*=x.pdf"),
        (b'"C:\\\\dir\\\\a.pdf"', "a.pdf"),
        (b'"../../a.pdf"', "a.pdf"),
        (b"a.pdf", "a.pdf"),
    ],
)
def test_a_file_name_may_be_odd(filename: bytes, kept: str) -> None:
    verdict = read([with_disposition(b'form-data; name="resume"; filename=' + filename)])
    assert (verdict.filename, verdict.resume) == (kept, RESUME)


def test_a_header_comes_once() -> None:
    part = Part("email", b"x", headers=[b'Content-Disposition: form-data; name="last_name"'])
    assert refusal(form([part])) is ProblemType.MALFORMED_MULTIPART


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "x-gzip"])
def test_an_encoded_part_is_refused(encoding: str) -> None:
    part = Part("email", b"x", headers=[f"Content-Transfer-Encoding: {encoding}".encode()])
    assert refusal(form([part])) is ProblemType.MALFORMED_MULTIPART


@pytest.mark.parametrize("encoding", ["7bit", "8BIT", "binary"])
def test_an_encoding_that_changes_nothing_is_not(encoding: str) -> None:
    part = Part("resume", RESUME, "cv.pdf", headers=[f"Content-Transfer-Encoding: {encoding}".encode()])
    assert read([form([*lead()[:3], part])]).resume == RESUME


@pytest.mark.parametrize("kind", [None, "", "application/json", "multipart/mixed; boundary=x", "multipart/form-data2"])
def test_another_media_type_is_not_read(kind: str | None) -> None:
    assert refusal(b"", kind) is ProblemType.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("boundary", ["", "; boundary=", '; boundary=""', "; boundary=" + "a" * 71, "; boundary=a\x01"])
def test_a_form_needs_a_boundary(boundary: str) -> None:
    assert refusal(b"", "multipart/form-data" + boundary) is ProblemType.MALFORMED_MULTIPART


def test_bare_line_feeds_end_no_line() -> None:
    assert refusal(form(lead()).replace(b"\r\n", b"\n")) is ProblemType.MALFORMED_MULTIPART
