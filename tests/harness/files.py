"""Files to send: good resumes of every kind, and bad ones that each break one rule. All built here, none on disk."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

MIB = 1024 * 1024

CONTENT_TYPES_XML = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    b'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    b'<Default Extension="xml" ContentType="application/xml"/>'
    b'<Override PartName="/word/document.xml" ContentType="application/'
    b'vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELS_XML = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    b'<Relationship Id="rId1" Target="word/document.xml" Type="http://schemas.openxmlformats.org/'
    b'officeDocument/2006/relationships/officeDocument"/></Relationships>'
)
DOCUMENT_XML = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    b"<w:body><w:p><w:r><w:t>Ann Example, resume</w:t></w:r></w:p></w:body></w:document>"
)
DOCX_PARTS: Mapping[str, bytes] = {
    "[Content_Types].xml": CONTENT_TYPES_XML,
    "_rels/.rels": RELS_XML,
    "word/document.xml": DOCUMENT_XML,
}
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS" + b"-TEST-FILE!$H+H*"
"""The harmless test virus (eicar.org), in pieces here, so that scanners do not find it in this source."""


def pdf(size_bytes: int = 65536, seed: int = 0, content: bytes = b"") -> bytes:
    """A PDF of exactly `size_bytes`: one page, a right cross-reference table, a filling that differs by seed."""
    filling = content + random.Random(seed).randbytes(max(size_bytes - 700 - len(content), 0))
    filling += b" " * (size_bytes - len(_pdf_around(filling)))
    whole = _pdf_around(filling)
    filling = filling[: len(filling) + size_bytes - len(whole)]  # the length's own digits may have grown by one
    whole = _pdf_around(filling)
    if len(whole) != size_bytes:
        raise ValueError(f"a PDF of {size_bytes} bytes cannot be built: too small")
    return whole


def eicar_pdf() -> bytes:
    """A good PDF with the EICAR test virus inside."""
    return pdf(content=EICAR)


def docx(size_bytes: int = 0, seed: int = 0) -> bytes:
    """A real minimal DOCX. With `size_bytes` a stored picture of noise makes it exactly that long."""
    whole = _zipped(DOCX_PARTS)
    if not size_bytes:
        return whole
    bare = len(_zipped(DOCX_PARTS, stored={"word/media/image1.png": b""}))
    noise = random.Random(seed).randbytes(size_bytes - bare)
    return _zipped(DOCX_PARTS, stored={"word/media/image1.png": noise})


def docx_with_descriptors(form: str = "signed") -> bytes:
    """As Java and Google Docs stream it: sizes after the data. `form`: signed, bare, signed64 or bare64."""
    return zip_of(Entry(name, data, descriptor=form) for name, data in DOCX_PARTS.items())


@cache
def zip_bomb_docx(unpacked_bytes: int = 60 * MIB) -> bytes:
    """One entry that inflates far beyond its size on disk, and by default beyond the bound."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in DOCX_PARTS.items():
            archive.writestr(name, data)
        with archive.open("word/media/image1.bmp", "w") as entry:
            for _ in range(unpacked_bytes // MIB):
                entry.write(bytes(MIB))
    return target.getvalue()


@cache
def docx_lying_sizes(unpacked_bytes: int = 60 * MIB) -> bytes:
    """The same bomb, but every header swears that it unpacks to ten bytes."""
    lie: dict[str, int | str] = {"unpacked": 10}
    bomb = Entry("word/media/image1.bmp", bytes(unpacked_bytes), said=lie, listed=lie)
    return zip_of([*docx_entries(), bomb])


def docx_many_entries(count: int) -> bytes:
    """A DOCX of `count` entries in all."""
    empty = {f"word/media/{number}.txt": b"" for number in range(count - len(DOCX_PARTS))}
    return _zipped(DOCX_PARTS, stored=empty)


def docx_with_xml_bomb() -> bytes:
    """Billion laughs and an external entity in the parts that a careless reader would parse first."""
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    doctype = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">'
    xml = doctype + laughs + b"]><x>&l9;&f;</x>"
    return _zipped({**DOCX_PARTS, "[Content_Types].xml": xml, "word/document.xml": xml})


def plain_zip() -> bytes:
    """A zip of notes."""
    return _zipped({"notes.txt": b"hello"})


def xlsx() -> bytes:
    """A spreadsheet: the same packaging as a DOCX, other parts."""
    return _zipped({"[Content_Types].xml": CONTENT_TYPES_XML, "_rels/.rels": RELS_XML, "xl/workbook.xml": b"<x/>"})


def odt() -> bytes:
    """An OpenDocument text: `mimetype` first and stored."""
    kind = {"mimetype": b"application/vnd.oasis.opendocument.text"}
    return _zipped({"content.xml": b"<x/>", "META-INF/manifest.xml": b"<x/>"}, first=kind)


def ods() -> bytes:
    """An OpenDocument spreadsheet."""
    kind = {"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}
    return _zipped({"content.xml": b"<x/>"}, first=kind)


def jar() -> bytes:
    """A Java archive."""
    return _zipped({"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\n", "Main.class": b"\xca\xfe\xba\xbe"})


def apk() -> bytes:
    """An Android package."""
    return _zipped({"AndroidManifest.xml": b"\x03\x00", "classes.dex": b"dex\n035\0"})


def doc() -> bytes:
    """The head of an old Word file (OLE2)."""
    return bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1528)


def rtf() -> bytes:
    """A rich text file."""
    return rb"{\rtf1\ansi Ann Example, resume}"


def exe() -> bytes:
    """The head of a Windows program."""
    return b"MZ\x90\x00" + bytes(56) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0" + bytes(256)


def elf() -> bytes:
    """The head of a Linux program."""
    return b"\x7fELF\x02\x01\x01" + bytes(256)


@dataclass(frozen=True)
class Entry:
    """One zip entry to write by hand. `said` and `listed` override its local header and its directory header."""

    name: str
    data: bytes
    stored: bool = False
    descriptor: str = ""
    tail: bytes = b""
    extra: bytes = b""
    listed_extra: bytes = b""
    listed_times: int = 1
    said: dict[str, int | str] = field(default_factory=dict)
    listed: dict[str, int | str] = field(default_factory=dict)

    @property
    def packed(self) -> bytes:
        if self.stored:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        return packer.compress(self.data) + packer.flush()


def docx_entries() -> list[Entry]:
    """The parts of a good DOCX, to be combined with a bad one."""
    return [Entry(name, data) for name, data in DOCX_PARTS.items()]


def zip_of(
    entries: Iterable[Entry],
    *,
    lead: bytes = b"",
    gap: bytes = b"",
    comment: bytes = b"",
    zip64: bool = False,
    end: dict[str, int] | None = None,
) -> bytes:
    """A zip written byte by byte, honest unless told otherwise. `gap` lies between the entries and the directory."""
    body, directory, count = lead, b"", 0
    for entry in entries:
        packed = entry.packed
        facts = {"crc32": zlib.crc32(entry.data), "packed": len(packed), "unpacked": len(entry.data)}
        body_offset, body = len(body), body + _local(entry, facts) + packed + _descriptor(entry, facts) + entry.tail
        directory += _central(entry, {**facts, "offset": body_offset}) * entry.listed_times
        count += entry.listed_times
    body += gap
    said = {"count": count, "size": len(directory), "start": len(body)} | (end or {})
    if zip64:
        where = len(body) + len(directory)
        directory += struct.pack(
            "<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, said["count"], said["count"], said["size"], said["start"]
        ) + struct.pack("<4sIQI", b"PK\x06\x07", 0, where, 1)
        said = {"count": 0xFFFF, "size": 0xFFFFFFFF, "start": 0xFFFFFFFF}
    last = ("<4s4H2IH", b"PK\x05\x06", 0, 0, said["count"], said["count"], said["size"], said["start"], len(comment))
    return body + directory + struct.pack(*last) + comment


def _local(entry: Entry, facts: Mapping[str, int]) -> bytes:
    wide = entry.descriptor.endswith("64")
    blank = 0xFFFFFFFF if wide else 0
    told = {"crc32": 0, "packed": blank, "unpacked": blank} if entry.descriptor else dict(facts)
    extra = (struct.pack("<2H2Q", 1, 16, 0, 0) if wide else b"") + entry.extra
    name, how, numbers, _ = _fields(_header(entry, told) | entry.said)
    fixed = struct.pack("<4s5H3I2H", b"PK\x03\x04", *how, 0, 0x21, *numbers, len(name), len(extra))
    return fixed + name + extra


def _central(entry: Entry, facts: Mapping[str, int]) -> bytes:
    name, how, numbers, offset = _fields(_header(entry, facts) | entry.listed)
    lengths = (len(name), len(entry.listed_extra), 0)
    rest = (0, 0x21, *numbers, *lengths, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *how, *rest) + name + entry.listed_extra


def _fields(header: Mapping[str, int | str]) -> tuple[bytes, list[int | str], list[int | str], int | str]:
    how = [header[key] for key in ("version", "flags", "method")]
    numbers = [header[key] for key in ("crc32", "packed", "unpacked")]
    return str(header["name"]).encode(), how, numbers, header.get("offset", 0)


def _header(entry: Entry, facts: Mapping[str, int]) -> dict[str, int | str]:
    how = {"version": 20, "flags": 8 * bool(entry.descriptor), "method": 8 * (not entry.stored)}
    return {"name": entry.name, **how, **facts}


def _descriptor(entry: Entry, facts: Mapping[str, int]) -> bytes:
    if not entry.descriptor:
        return b""
    sign = b"PK\x07\x08" if entry.descriptor.startswith("signed") else b""
    return sign + struct.pack("<I2Q" if entry.descriptor.endswith("64") else "<3I", *facts.values())


def _zipped(
    parts: Mapping[str, bytes],
    *,
    first: Mapping[str, bytes] | None = None,
    stored: Mapping[str, bytes] | None = None,
) -> bytes:
    """`parts` packed by the standard library, after `first` and before `stored`, which both stay unpacked."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in (first or {}).items():
            archive.writestr(_info(name), data)
        for name, data in parts.items():
            archive.writestr(_info(name), data, zipfile.ZIP_DEFLATED)
        for name, data in (stored or {}).items():
            archive.writestr(_info(name), data)
    return target.getvalue()


def _info(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, date_time=(2024, 1, 1, 0, 0, 0))


def _pdf_around(filling: bytes) -> bytes:
    return pdf_of(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(filling), filling),
    )


def pdf_of(*objects: bytes) -> bytes:
    """A PDF of these objects, the first of which is its catalog, with a right cross-reference table."""
    body, offsets = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (count, table, count, len(body))
    )
