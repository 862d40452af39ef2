"""The text in a resume: a program of its own, since files of strangers are parsed here.

It is started by `reader.py` with nothing in its environment, and has bounds on memory and on processor time for each
file, at which it ends, also when whoever started it is gone. It reads from stdin a line `<kind> <bytes>` and so many
bytes, and writes a line of JSON: the words, or null where none can be read.
"""

import io
import json
import os
import resource
import signal
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from xml.etree.ElementTree import Element, iterparse

from pypdf import PdfReader

from services.api.resume_search.reader import KINDS, READY
from services.api.resume_search.words import words_of
from shared.processors import run_on

SECONDS_OF_ONE = 20.0
"""Processor time, not time on the wall: at the lowest priority a busy machine gives it a small share."""

MEMORY_BYTES = 1024**3
MOST_PAGES = 50
MOST_LETTERS = 500_000
MOST_XML_BYTES = 20 * 1024 * 1024

_WORD_XML = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_ODT_XML = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


def text_of(kind: str, body: bytes) -> str:
    """The text of a resume of that kind, or as much of it as is kept. Raises whatever the file brings about."""
    return _joined(_READERS[kind](body))


def _joined(pieces: Iterator[str]) -> str:
    """As much as can be read: of a file that is damaged on its last page what came before."""
    text, letters = list[str](), 0
    try:
        for piece in pieces:
            text.append(piece)
            letters += len(piece)
            if letters > MOST_LETTERS:
                break
    except MemoryError:
        raise
    except Exception:
        if not letters:
            raise
    return "\n".join(text)[:MOST_LETTERS]


def _pdf(body: bytes) -> Iterator[str]:
    for page in islice(PdfReader(io.BytesIO(body)).pages, MOST_PAGES):
        yield page.extract_text()


def _docx(body: bytes) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(body)) as package:
        for part in package.namelist():
            if part.startswith(("word/document", "word/header", "word/footer")) and part.endswith(".xml"):
                yield from _paragraphs(package, part, (f"{_WORD_XML}p",), _docx_text)


def _odt(body: bytes) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(body)) as package:
        yield from _paragraphs(package, "content.xml", (f"{_ODT_XML}p", f"{_ODT_XML}h"), _odt_text)


def _txt(body: bytes) -> Iterator[str]:
    yield body.decode(errors="replace")


_READERS: Mapping[str, Callable[[bytes], Iterator[str]]] = {"pdf": _pdf, "docx": _docx, "odt": _odt, "txt": _txt}
assert _READERS.keys() == KINDS


def _paragraphs(
    package: zipfile.ZipFile, part: str, tags: Collection[str], text: Callable[[Element], str]
) -> Iterator[str]:
    """The XML is a stranger's: expat bounds what its entities grow to, and this process what all of it may take."""
    with package.open(part) as packed:
        xml = io.BytesIO(packed.read(MOST_XML_BYTES))
    for _, element in iterparse(xml):  # noqa: S314
        if element.tag in tags:
            yield text(element)
            element.clear()


def _docx_text(paragraph: Element) -> str:
    """Word cuts its runs within words: only tabs and breaks part them."""
    parts = {f"{_WORD_XML}tab": " ", f"{_WORD_XML}br": " "}
    return "".join(one.text or "" if one.tag == f"{_WORD_XML}t" else parts.get(one.tag, "") for one in paragraph.iter())


def _odt_text(paragraph: Element) -> str:
    """Spans, too, begin and end within words."""
    for blank in ("tab", "s", "line-break"):
        for one in paragraph.iter(f"{_ODT_XML}{blank}"):
            one.text = " "
    return "".join(paragraph.itertext())


def _answer(kind: str, body: bytes) -> bytes:
    signal.setitimer(signal.ITIMER_PROF, SECONDS_OF_ONE)
    try:
        words = words_of(text_of(kind, body))
    except MemoryError:
        raise  # it may be what the files before have left here: another program is asked
    except Exception:  # noqa: BLE001 - what a stranger's file brings about is nobody's defect
        words = None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return json.dumps(words, ensure_ascii=False).encode() + b"\n"


def main() -> None:
    """Answer until stdin ends."""
    os.nice(19)
    run_on(frozenset(int(one) for told in sys.argv[1:] for one in told.split(",") if one.isdigit()))
    for limit, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    told.write(READY)
    told.flush()
    while line := asked.readline():
        kind, size = line.split()
        told.write(_answer(kind.decode(), asked.read(int(size))))
        told.flush()


if __name__ == "__main__":
    main()
