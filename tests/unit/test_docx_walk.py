"""The walk over a DOCX: real ones pass, bombs and liars do not, and where the bytes are cut never matters."""

import io
import itertools
import random
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.docx import (
    MAX_ENTRIES,
    MAX_UNPACKED_BYTES,
    NAME_MAX_BYTES,
    RATIO_FLOOR_BYTES,
    DocxRefused,
    DocxWalk,
)
from tests.harness import files
from tests.harness.files import Entry, docx_entries, zip_of

U32 = 0xFFFFFFFF
NOTE = Entry("word/note.xml", b"<note>" * 50)
PHOTO = Entry("word/media/photo.png", bytes(range(256)) * 8, stored=True)
MEGABYTES = b"<w:p/>" * 100_000 + random.Random(0).randbytes(60_000) + b" " * 400_000
FACTS = {"crc32": zlib.crc32(NOTE.data), "packed": len(NOTE.packed), "unpacked": len(NOTE.data)}


def with_note(**changes):
    """A good DOCX with one more entry, which breaks a rule."""
    return zip_of([*docx_entries(), Entry(**{"name": NOTE.name, "data": NOTE.data, **changes})])


def without(name):
    return zip_of(entry for entry in docx_entries() if entry.name != name)


def listed_elsewhere():
    """Two directory headers that share one entry's bytes, as overlapping bombs do."""
    return zip_of([*docx_entries(), PHOTO, Entry("word/media/twin.png", PHOTO.data, stored=True, listed={"offset": 0})])


def streamed_by_python():
    class Pipe(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            written.extend(data)
            return len(data)

    written = bytearray()
    with zipfile.ZipFile(Pipe(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.DOCX_PARTS.items():
            archive.writestr(name, data)
        with archive.open("word/media/1.bin", "w", force_zip64=True) as entry:
            entry.write(b"abc" * 1000)
    return bytes(written)


GOOD = {
    "by the standard library": files.docx(),
    "with a stored picture": files.docx(20_000),
    "with sizes after the data": files.docx_with_descriptors("signed"),
    "with sizes after the data, no signature": files.docx_with_descriptors("bare"),
    "with 64-bit sizes after the data": files.docx_with_descriptors("signed64"),
    "with 64-bit sizes after the data, no signature": files.docx_with_descriptors("bare64"),
    "streamed by the standard library": streamed_by_python(),
    "with sizes both before and after the data": with_note(descriptor="signed", said=FACTS),
    "with a zip64 end": zip_of(docx_entries(), zip64=True),
    "with zip64 sizes": with_note(
        said={"packed": U32, "unpacked": U32},
        extra=struct.pack("<2H4s2H2Q", 9, 4, b"else", 1, 16, FACTS["unpacked"], FACTS["packed"]),
        listed={"packed": U32, "unpacked": U32},
        listed_extra=struct.pack("<2H2Q", 1, 16, FACTS["unpacked"], FACTS["packed"]),
    ),
    "with Word's deflate flags": with_note(said={"flags": 6}, listed={"flags": 6}),
    "with padding in an extra field": with_note(extra=b"\0" * 7),
    "with a folder": with_note(name="word/media/", data=b"", stored=True),
    "with an empty entry": with_note(data=b""),
    "with a nested zip": with_note(name="word/embeddings/sheet.xlsx", data=files.xlsx(), stored=True),
    "with blanks that pack well": with_note(data=b" " * RATIO_FLOOR_BYTES),
    **{
        f"with megabytes before {form} sizes": with_note(data=MEGABYTES, descriptor=form)
        for form in ("signed", "bare", "signed64", "bare64")
    },
    "with megabytes": with_note(data=MEGABYTES),
    "with as many entries as allowed": files.docx_many_entries(MAX_ENTRIES),
    "with XML that must not be parsed": files.docx_with_xml_bomb(),
    "by Word for the web": zip_of(
        Entry(name.replace("document.xml", "document2.xml"), data) for name, data in files.DOCX_PARTS.items()
    ),
}

NOT_WORD = {
    "a zip": files.plain_zip(),
    "a spreadsheet": files.xlsx(),
    "an OpenDocument text": files.odt(),
    "a Java archive": files.jar(),
    "an Android package": files.apk(),
    "a program": files.exe(),
    "a PDF": files.pdf(2048),
    "an empty zip": zip_of([]),
    "no list of types": without("[Content_Types].xml"),
    "no document": without("word/document.xml"),
    "bytes before the zip": zip_of(docx_entries(), lead=b"MZ"),
    "one byte": b"P",
    "a signature": b"PK\x03\x04",
}

PROTECTED = {
    "an OLE2 container": files.doc(),
    **{f"flag {flag}": with_note(said={"flags": flag}, listed={"flags": flag}) for flag in (1, 1 << 6, 1 << 13)},
    "a flag in the directory only": with_note(listed={"flags": 1}),
}

TOO_BIG = {
    "a bomb": files.zip_bomb_docx(),
    "a bomb that lies": files.docx_lying_sizes(),
    "a bomb that does not say": with_note(data=bytes(MAX_UNPACKED_BYTES + 1), descriptor="signed"),
    "a bomb in many parts": zip_of(
        [*docx_entries(), *(Entry(f"word/{n}.xml", bytes(RATIO_FLOOR_BYTES)) for n in range(50))]
    ),
    "a ratio": with_note(data=bytes(RATIO_FLOOR_BYTES + 1)),
    "a ratio that comes after the data": with_note(data=bytes(RATIO_FLOOR_BYTES + 1), descriptor="bare"),
    "an entry that claims gigabytes": with_note(said={"unpacked": U32 - 1}),
    "one entry too many": files.docx_many_entries(MAX_ENTRIES + 1),
}

DAMAGED = {
    **{f"a wrong {key} before the data": with_note(said={key: FACTS[key] + 1}) for key in FACTS},
    **{f"a wrong {key} in the directory": with_note(listed={key: FACTS[key] + 1}) for key in FACTS},
    **{
        f"a wrong {key} before, though it also comes after": with_note(descriptor="bare", said={key: 7})
        for key in FACTS
    },
    "too few packed bytes": with_note(said={"packed": FACTS["packed"] - 1}),
    "too few unpacked bytes": with_note(stored=True, said={"unpacked": 1}),
    "another name in the directory": with_note(listed={"name": "word/other.xml"}),
    "another method in the directory": with_note(listed={"method": 0}),
    "another offset in the directory": with_note(listed={"offset": 1}),
    "an overlap": listed_elsewhere(),
    "an entry that is not listed": with_note(listed_times=0),
    "an entry that is listed twice": with_note(listed_times=2),
    "bytes after an entry": with_note(tail=b"x"),
    "bytes before the directory": zip_of(docx_entries(), gap=b"x"),
    "bytes after the end": files.docx() + b"\0",
    "another zip after the end": files.docx() + files.jar(),
    "a comment": zip_of(docx_entries(), comment=files.jar()),
    **{f"a wrong {key} at the end": zip_of(docx_entries(), end={key: 1}) for key in ("count", "size", "start")},
    **{f"a wrong {key} at a zip64 end": zip_of(docx_entries(), zip64=True, end={key: 1}) for key in ("count", "start")},
    "a placeholder without zip64": with_note(said={"packed": U32}),
    "a placeholder at the end without zip64": zip_of(docx_entries(), end={"start": U32}),
    "a stored entry with sizes after the data": with_note(stored=True, descriptor="signed"),
    **{
        f"method {method}": with_note(said={"method": method}, listed={"method": method})
        for method in (1, 9, 12, 14, 93)
    },
    "a version to come": with_note(said={"version": 64}, listed={"version": 64}),
    "an extra field that is cut short": with_note(listed_extra=struct.pack("<2H", 1, 16)),
    "an extra field in a thousand pieces": with_note(extra=struct.pack("<2H", 9, 0) * 1000),
    "patched data": with_note(said={"flags": 1 << 5}),
    "deflate that is none": with_note(stored=True, said={"method": 8}, listed={"method": 8}),
    "a name twice": with_note(name="word/document.xml"),
    "a name twice but for case": with_note(name="word/Document.XML"),
    "no name": with_note(name=""),
    "an endless name": with_note(name="x" * (NAME_MAX_BYTES + 1)),
    **{
        f"name {name!r}": with_note(name=name)
        for name in ("../x", "a/../x", "a\\..\\x", "..", "/x", "\\x", "a\0b", "a\nb")
    },
}

REFUSED = {"not a Word document": NOT_WORD, "password": PROTECTED, "unpacks to more": TOO_BIG, "damaged": DAMAGED}
CASES = [(words, name) for words, table in REFUSED.items() for name in table]
SMALL = [*GOOD.values(), *(content for table in REFUSED.values() for content in table.values())]
SMALL = [content for content in SMALL if len(content) < 4096]


@pytest.mark.parametrize("name", GOOD)
def test_a_real_docx_passes(name):
    assert _verdict(GOOD[name]) is None
    assert zipfile.ZipFile(io.BytesIO(GOOD[name])).testzip() is None


@pytest.mark.parametrize(("words", "name"), CASES)
def test_anything_else_is_refused_by_its_reason(words, name):
    assert words in _verdict(REFUSED[words][name])


def test_no_beginning_of_a_docx_is_a_docx():
    for form in (files.docx(), files.docx_with_descriptors("bare"), GOOD["with a zip64 end"]):
        assert None not in {_verdict(form[:size]) for size in range(len(form))}


@pytest.mark.parametrize("content", SMALL)
def test_byte_by_byte_the_verdict_is_the_same(content):
    assert _verdict(content, range(len(content))) == _verdict(content)


@pytest.mark.parametrize("size", [1, 3, 1000, 16 * 1024, 16 * 1024 + 1, 65536])
@pytest.mark.parametrize("name", [name for name in GOOD if "megabytes" in name])
def test_in_pieces_of_any_size_the_verdict_is_the_same(name, size):
    assert _verdict(GOOD[name], range(0, len(GOOD[name]), size)) is None


@given(st.sampled_from(SMALL), st.lists(st.integers(0, 4096), max_size=12))
@settings(deadline=None, max_examples=200)
def test_in_random_pieces_the_verdict_is_the_same(content, cuts):
    assert _verdict(content, cuts) == _verdict(content)


@given(st.sampled_from([files.docx(), files.docx_with_descriptors(), GOOD["with a zip64 end"]]), st.data())
@settings(deadline=None, max_examples=400)
def test_what_passes_reads_the_same_for_the_standard_library(content, data):
    at = data.draw(st.integers(0, len(content)))
    removed, added = data.draw(st.integers(0, 4)), data.draw(st.binary(max_size=4))
    mutant = content[:at] + added + content[at + removed :]
    if _verdict(mutant) is None:
        archive = zipfile.ZipFile(io.BytesIO(mutant))
        assert archive.testzip() is None
        assert {"[content_types].xml", "word/document.xml"} <= {name.lower() for name in archive.namelist()}
    assert (_verdict(mutant) is None) == (_verdict(mutant, range(len(mutant))) is None)


@pytest.mark.parametrize("bomb", [files.zip_bomb_docx(), files.docx_lying_sizes()])
def test_a_bomb_is_refused_long_before_its_end(bomb):
    with pytest.raises(DocxRefused):
        DocxWalk().feed(bomb[:2048])


def test_a_bomb_takes_no_memory():
    bomb = TOO_BIG["a bomb that does not say"]
    tracemalloc.start()
    try:
        assert _verdict(bomb) is not None
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_refusal_stays_a_refusal():
    walk = DocxWalk()
    for step in (lambda: walk.feed(b"GIF89a"), lambda: walk.feed(files.docx()), walk.finish):
        with pytest.raises(DocxRefused):
            step()


def test_an_end_that_is_not_the_end_is_refused_although_it_was_complete():
    walk = DocxWalk()
    walk.feed(files.docx())
    walk.finish()
    for step in (lambda: walk.feed(b"\0"), walk.finish):
        with pytest.raises(DocxRefused):
            step()


def _verdict(content, cuts=()):
    """None where the walk passes, else what it says."""
    walk = DocxWalk()
    bounds = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    try:
        for start, end in itertools.pairwise(bounds):
            walk.feed(content[start:end])
        walk.finish()
    except DocxRefused as refusal:
        return str(refusal)
    return None
