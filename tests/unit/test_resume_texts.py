"""The text is read out of each kind of resume, and what a hostile one brings about ends there."""

from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile

import pytest
from pypdf.errors import PyPdfError

from services.api.resume_search.reader import KINDS
from services.api.resume_search.texts import MOST_LETTERS, text_of
from services.api.resume_search.words import words_of
from services.api.resumes import ResumeKind
from tests.harness import files
from tests.harness.files import DOCUMENT_XML
from tests.harness.resumes import docx_of, docx_saying, odt_of, odt_saying, pdf_saying

SAID = ("Ann Example (engineer)", "Kubernetes and Résumé writing")
FOUND = ["ann", "example", "engineer", "kubernetes", "and", "resume", "writing"]
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("pdf", pdf_saying(*SAID)),
        ("docx", docx_saying(*SAID)),
        ("odt", odt_saying(*SAID)),
        ("txt", "\n".join(SAID).encode()),
    ],
)
def test_the_words_of_a_resume_are_read(kind: str, body: bytes):
    assert set(FOUND) <= set(words_of(text_of(kind, body)))


def test_tabs_and_breaks_part_words_and_nothing_else_within_a_paragraph():
    odt = odt_of("<text:p>one<text:tab/>two<text:line-break/>three <text:s/>four</text:p>")
    assert words_of(text_of("odt", odt)) == ["a", "heading", "one", "two", "three", "four"]
    tabbed = docx_of(DOCUMENT_XML.replace(b"<w:t>Ann Example", b"<w:t>Ann</w:t><w:tab/><w:t>Exam</w:t><w:t>ple"))
    assert words_of(text_of("docx", tabbed)) == ["ann", "example", "resume"]


def test_what_comes_before_the_damage_is_kept():
    whole = docx_of(DOCUMENT_XML.replace(b"</w:body></w:document>", b""))
    assert words_of(text_of("docx", whole)) == ["ann", "example", "resume"]


def test_each_kind_that_is_read_is_one_that_may_be_accepted():
    assert {ResumeKind(kind) for kind in KINDS} == set(ResumeKind) - {ResumeKind.DOC, ResumeKind.RTF}


def test_no_more_is_kept_of_a_text_than_is_worth_it():
    assert len(text_of("txt", b"word " * MOST_LETTERS)) == MOST_LETTERS
    assert len(text_of("docx", docx_saying(*["word " * 100] * 5_000))) <= MOST_LETTERS


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("pdf", b"%PDF-1.7 and nothing", PyPdfError),
        ("pdf", pdf_saying("text")[:300], PyPdfError),
        ("docx", b"PK\x03\x04 and nothing", BadZipFile),
        ("docx", docx_of(b"<w:document>"), ParseError),
        ("docx", docx_of(f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l9;</x>'.encode()), ParseError),
        ("odt", files.docx(), KeyError),
    ],
)
def test_what_cannot_be_read_raises(kind: str, body: bytes, error: type[Exception]):
    with pytest.raises(error):
        text_of(kind, body)


def test_entities_that_grow_without_end_are_stopped_by_the_parser():
    laughing = f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l9;</x>'
    with pytest.raises(ParseError, match="amplification"):
        text_of("docx", docx_of(laughing.encode()))


def test_a_picture_of_a_resume_has_no_words():
    assert words_of(text_of("pdf", files.pdf(5_000))) == []
