"""The resume's name and its content: what is shown, which kind it is, and that content decides, not claims."""

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.api.resumes import (
    DEFAULT_KINDS,
    FILENAME_MAX_BYTES,
    HEAD_BYTES,
    ResumeKind,
    clean_filename,
    inspector_for,
    kind_of,
)
from shared.problems import Problem, ProblemType
from tests.harness import files

SHOWN_AS = [
    ("cv.pdf", "cv.pdf"),
    ("Ann Lee – CV (2024).pdf", "Ann Lee – CV (2024).pdf"),
    ("履歴書（山田）.docx", "履歴書（山田）.docx"),
    ("Re\u0301sume\u0301.pdf", "Résumé.pdf"),
    ("👩\u200d💻.pdf", "👩\u200d💻.pdf"),
    ("100%.pdf", "100%.pdf"),
    ("50%25.pdf", "50%25.pdf"),
    ("../../etc/cron.d/x.pdf", "x.pdf"),
    ("/etc/passwd", "passwd"),
    ("C:\\x.pdf", "x.pdf"),
    ("C:x.pdf", "x.pdf"),
    ("C:\\docs\\..\\x.pdf", "x.pdf"),
    ("\\\\srv\\share\\cv.pdf", "cv.pdf"),
    ("..%2fcv.pdf", "cv.pdf"),
    ("..%2F..%5ccv.pdf", "cv.pdf"),
    ("%2e%2e/cv.pdf", "cv.pdf"),
    ("%252e%252e%252fcv.pdf", "cv.pdf"),
    ("..%25%e2%80%8b2fcv.pdf", "cv.pdf"),
    ("..%EF%BC%8Fcv.pdf", "cv.pdf"),
    ("....//cv.pdf", "cv.pdf"),
    ("．．／cv.pdf", "cv.pdf"),
    ("‥＼cv.pdf", "cv.pdf"),
    ("a\u2215b\u2044cv.pdf", "cv.pdf"),
    ("a\u2100cv.pdf", "cv.pdf"),
    ("cv.pdf/", "cv.pdf"),
    ("cv.pdf ", "cv.pdf"),
    ("cv.pdf. . ", "cv.pdf"),
    ("cv.pdf\u3000", "cv.pdf"),
    (" .cv.pdf", "cv.pdf"),
    ("cv\u202efdp.exe", "cvfdp.exe"),
    ("c\u2066v\u2069.p\u200bdf", "cv.pdf"),
    ("cv\r\n.pdf\0", "cv.pdf"),
    ("cv%00.pdf", "cv.pdf"),
    ("cv%0d%0a.pdf", "cv.pdf"),
    ("\ud800cv.pdf", "cv.pdf"),
    ("", ""),
    ("..%2f", ""),
    ("%2e%2e/", ""),
    ("....//", ""),
    ("．．／", ""),
    (" . ", ""),
]


@pytest.mark.parametrize(("sent", "shown"), SHOWN_AS)
def test_a_file_name_is_shown_without_its_path_and_its_tricks(sent, shown):
    assert clean_filename(sent) == shown


def test_percent_encoding_too_deep_to_undo_leaves_nothing_to_undo():
    assert "%" not in clean_filename("..%" + "25" * 40 + "2fcv.pdf")


@pytest.mark.parametrize("char", ["a", "é", "山", "👩"])
@pytest.mark.parametrize("extension", [".pdf", ".DOCX", ""])
def test_a_long_file_name_is_cut_between_characters_and_keeps_its_extension(char, extension):
    name = clean_filename(char * 300 + extension)
    assert FILENAME_MAX_BYTES - 4 < len(name.encode()) <= FILENAME_MAX_BYTES
    assert name.endswith(extension)
    assert set(name.removesuffix(extension)) == {char}


def test_an_extension_that_is_none_is_cut_like_the_rest():
    assert len(clean_filename("cv." + "x" * 400).encode()) == FILENAME_MAX_BYTES


@given(st.text(max_size=400) | st.text(alphabet="%25eEfFcC0/\\.:a \u200b\u0301", max_size=60))
@example("%25%e2%80%8b2f")
@example("C:C: x.pdf")
@settings(deadline=None, max_examples=400)
def test_whatever_is_sent_the_shown_name_is_plain_short_and_stays_as_it_is(sent):
    name = clean_filename(sent)
    assert clean_filename(name) == name
    assert len(name.encode()) <= FILENAME_MAX_BYTES
    assert not set(unicodedata.normalize("NFKC", name)) & set("/\\\r\n\0\u202e")
    assert name.strip(" .") == name


def test_every_character_that_normalises_to_a_slash_is_taken_for_one():
    folded = ((chr(code), unicodedata.normalize("NFKC", chr(code))) for code in range(0x110000))
    slashes = [char for char, form in folded if "/" in form or "\\" in form]
    assert len(slashes) > 2
    assert all(clean_filename(f"a{slash}b.pdf") == "b.pdf" for slash in slashes)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [("cv.pdf", "pdf"), ("cv.PDF", "pdf"), ("cv.pdf ", "pdf"), ("cv.exe.Docx", "docx"), ("a.b.pdf", "pdf")],
)
def test_the_last_extension_in_any_case_says_the_kind(sent, kind):
    assert kind_of(clean_filename(sent)) is ResumeKind(kind)


@pytest.mark.parametrize(
    "sent", ["cv", "", "pdf", ".pdf", "cv.pdf.exe", "cv.exe", "cv.pd", "cv.txt", "cv.p\u0434f", "cvpdf"]
)
def test_another_extension_is_refused_with_what_is_accepted(sent):
    with pytest.raises(Problem) as refused:
        kind_of(clean_filename(sent), DEFAULT_KINDS)
    assert refused.value.type is ProblemType.UNSUPPORTED_RESUME
    assert "PDF or DOCX" in refused.value.detail


def test_what_is_accepted_is_a_setting():
    assert kind_of("cv.txt", frozenset({ResumeKind.TXT})) is ResumeKind.TXT
    with pytest.raises(Problem, match="TXT"):
        kind_of("cv.pdf", frozenset({ResumeKind.TXT}))


def test_every_kind_has_its_own_media_type_and_extension():
    assert len({kind.content_type for kind in ResumeKind}) == len(ResumeKind)
    assert ResumeKind.DOCX.extension == ".docx"
    assert ResumeKind.PDF.content_type == "application/pdf"


GOOD = {
    "pdf": files.pdf(2048),
    "pdf with the test virus": files.eicar_pdf(),
    "pdf after a BOM and blanks": b"\xef\xbb\xbf \r\n\t" + files.pdf(2048),
    "pdf cut short": files.pdf(2048)[:9],
    "docx": files.docx(),
    "doc": files.doc(),
    "odt": files.odt(),
    "rtf": files.rtf(),
    "txt": "Ann Example\r\n\tRésumé 山\f".encode(),
    "txt with BOM": b"\xef\xbb\xbfAnn",
}

ALSO_PLAIN_TEXT = {(ResumeKind.TXT, "rtf"), (ResumeKind.TXT, "pdf cut short")}
MISMATCHES = sorted({(kind, name) for kind in ResumeKind for name in GOOD if name.split()[0] != kind} - ALSO_PLAIN_TEXT)

NOT_A_PDF = {
    "a DOCX": files.docx(),
    "a program for Windows": files.exe(),
    "a program for Linux": files.elf(),
    "a web page": b"<!doctype html><script>alert(1)</script>",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "a script": b"#!/bin/sh\nrm -rf /",
    "PHP": b"<?php system($_GET[0]); ?>",
    "a web page that is also a PDF": b"<script>alert(1)</script>" + files.pdf(2048),
    "a program that is also a PDF": files.exe() + files.pdf(2048),
    "a PDF after other blanks": b"\0" + files.pdf(2048),
    "a PDF after half a BOM": b"\xef\xbb" + files.pdf(2048),
    "a PDF far below": b" " * HEAD_BYTES + files.pdf(2048),
    "one byte": b"x",
    "the start of a signature": b"%PDF",
    "only blanks": b" \n",
    "half a BOM": b"\xef",
}


@pytest.mark.parametrize("name", GOOD)
def test_content_of_the_right_kind_passes_however_it_is_cut(name):
    kind = ResumeKind(name.split()[0])
    assert {_verdict(kind, GOOD[name], cut) for cut in (1, 2, 3, 7, 1024, 65536)} == {None}


@pytest.mark.parametrize("name", NOT_A_PDF)
def test_other_content_named_pdf_is_refused_however_it_is_cut(name):
    verdicts = {_verdict(ResumeKind.PDF, NOT_A_PDF[name], cut) for cut in (1, 2, 3, 7, 1024, 65536)}
    assert verdicts == {ProblemType.UNSUPPORTED_RESUME}


@pytest.mark.parametrize(("kind", "name"), MISMATCHES)
def test_content_of_another_kind_is_refused(kind, name):
    assert _verdict(kind, GOOD[name]) is ProblemType.UNSUPPORTED_RESUME


@pytest.mark.parametrize("kind", ResumeKind)
def test_an_empty_file_is_a_field_to_correct(kind):
    inspector = inspector_for(kind)
    inspector.feed(b"")
    with pytest.raises(Problem) as refused:
        inspector.finish()
    assert refused.value.type is ProblemType.INVALID_FIELDS
    assert [error.field for error in refused.value.errors] == ["resume"]


@pytest.mark.parametrize("kind", set(ResumeKind) - {ResumeKind.TXT})
def test_wrong_content_is_refused_at_its_first_bytes(kind):
    with pytest.raises(Problem):
        inspector_for(kind).feed(b"GIF89a")


@pytest.mark.parametrize("kind", ResumeKind)
def test_a_refusal_stays_a_refusal(kind):
    inspector = inspector_for(kind)
    for step in (lambda: inspector.feed(files.elf()), lambda: inspector.feed(GOOD[kind]), inspector.finish):
        with pytest.raises(Problem):
            step()


@pytest.mark.parametrize(
    "text", [b"caf\xe9", b"A\0B", b"\x1b[2J", b"caf\xc3", "A\u0085B".encode(), "Ann".encode("utf-16")]
)
def test_text_is_utf8_without_controls(text):
    assert {_verdict(ResumeKind.TXT, text, cut) for cut in (1, 2, 65536)} == {ProblemType.UNSUPPORTED_RESUME}


@pytest.mark.parametrize("other", [files.ods(), files.docx(), files.plain_zip(), files.odt()[:60], b"PK\x03"])
def test_another_zip_is_not_an_odt(other):
    assert {_verdict(ResumeKind.ODT, other, cut) for cut in (1, 65536)} == {ProblemType.UNSUPPORTED_RESUME}


def test_only_a_docx_costs_enough_to_need_a_thread():
    assert [kind for kind in ResumeKind if inspector_for(kind).heavy] == [ResumeKind.DOCX]


def test_a_pdf_that_is_known_costs_next_to_nothing_per_chunk():
    inspector, chunk, rounds = inspector_for(ResumeKind.PDF), files.pdf(), 1000
    inspector.feed(chunk)
    best = min(_seconds_for(lambda: [inspector.feed(chunk) for _ in range(rounds)]) for _ in range(5))
    assert best / rounds < 5e-6


def _verdict(kind, content, cut=65536):
    """None where the content passes, else the type of the problem."""
    inspector = inspector_for(kind)
    try:
        for start in range(0, len(content), cut):
            inspector.feed(content[start : start + cut])
        inspector.finish()
    except Problem as problem:
        return problem.type
    return None


def _seconds_for(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
