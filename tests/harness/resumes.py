"""Resumes with a text in them, as word processors write them, in small."""

import zlib

from tests.harness.files import DOCUMENT_XML, Entry, docx_entries, pdf_of, zip_of

_BODY = DOCUMENT_XML.partition(b"<w:p>")[0]


def pdf_saying(*pages: str) -> bytes:
    """A PDF with a page for each text, in a font that every reader has. Latin letters alone."""
    count = len(pages)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>"
        % (b" ".join(b"%d 0 R" % (4 + 2 * page) for page in range(count)), count),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for page, text in enumerate(pages):
        shown = text.encode("cp1252").replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")
        packed = zlib.compress(b"BT /F1 12 Tf 72 720 Td (%b) Tj ET" % shown)
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * page),
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(packed), packed),
        ]
    return pdf_of(*objects)


def docx_saying(*paragraphs: str) -> bytes:
    """A DOCX whose words are cut into runs in their middle, as Word does where somebody corrected one."""
    texts = "".join(
        f"<w:p>{''.join(_run(text[at : at + 5]) for at in range(0, len(text), 5))}</w:p>" for text in paragraphs
    )
    return docx_of(_BODY + texts.encode() + b"</w:body></w:document>")


def docx_of(document_xml: bytes) -> bytes:
    """A DOCX with that as its document."""
    parts = [one for one in docx_entries() if one.name != "word/document.xml"]
    return zip_of([*parts, Entry("word/document.xml", document_xml)])


def odt_saying(*paragraphs: str) -> bytes:
    """The same as an OpenDocument text."""
    return odt_of("".join(f"<text:p>{_spans(text)}</text:p>" for text in paragraphs))


def odt_of(paragraphs_xml: str) -> bytes:
    """An OpenDocument text with a heading and these paragraphs."""
    content = (
        '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
        ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:text>'
        f"<text:h>A heading</text:h>{paragraphs_xml}</office:text></office:body></office:document-content>"
    )
    kind = b"application/vnd.oasis.opendocument.text"
    return zip_of([Entry("mimetype", kind, stored=True), Entry("content.xml", content.encode())])


def _spans(text: str) -> str:
    return "".join(f"<text:span>{text[at : at + 5]}</text:span>" for at in range(0, len(text), 5))


def _run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'
