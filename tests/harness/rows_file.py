"""Bad inputs, section D: names and contents of resumes."""

import unicodedata
import zlib
from collections.abc import Awaitable, Callable, Sequence

from tests.harness import files
from tests.harness.bad_inputs import QUICK_SECONDS, RESUME, Ground, Row, fields_at_fault
from tests.harness.files import MIB
from tests.harness.raw_http import Part, RawAnswer

Also = Callable[[Ground, Sequence[RawAnswer]], Awaitable[None]]
Send = Callable[[Ground], Awaitable[RawAnswer]]

LIMIT = 5 * MIB
KIND = {"unsupported-resume"}
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


def resume(content: bytes | Callable[[], bytes], filename: str = "cv.pdf") -> Send:
    """A good form with this file."""

    async def send(ground: Ground) -> RawAnswer:
        built = content if isinstance(content, bytes) else content()
        return await ground.post(ground.lead(resume=built, filename=filename))

    return send


def named(filename: str) -> Send:
    """A good PDF under that name; quotes and backslashes as browsers write them."""
    return resume(RESUME, filename.replace('"', "%22"))


async def is_a_plain_name(ground: Ground, answers: Sequence[RawAnswer]) -> None:
    """Kept and shown as one tidy name, and downloaded as an attachment of that name, with the bytes that were sent."""
    lead = answers[0].json
    shown = lead["resume"]["filename"]
    assert shown
    assert len(shown.encode()) <= 255
    assert not set(shown) & set("/\\\0\r\n" + BIDI)
    assert ".." not in shown
    assert shown == unicodedata.normalize("NFC", shown).strip()
    assert lead["resume_path"] not in shown
    file = await ground.ask_as_staff("GET", f"/leads/{lead['id']}/resume")
    assert file.headers["content-disposition"].startswith("attachment; filename")
    assert file.headers["content-disposition"].isascii()
    assert file.headers["content-type"] in ("application/pdf", files_type(shown))
    assert "sandbox" in file.headers["content-security-policy"]
    assert len(file.body) == lead["resume"]["size"]


def files_type(filename: str) -> str:
    """The media type that goes with a DOCX's name."""
    assert filename.lower().endswith((".pdf", ".docx"))
    return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


async def names_the_resume(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert fields_at_fault(answers[0]) == ["resume"]


async def a_copy_each(ground: Ground, answers: Sequence[RawAnswer]) -> None:
    assert len({one.json["resume_path"] for one in answers}) == 2
    assert len({one.json["resume"]["sha256"] for one in answers}) == 1


async def same_bytes_twice(ground: Ground) -> list[RawAnswer]:
    return [await ground.post(ground.lead()) for _ in range(2)]


def active_pdf(content: bytes) -> bytes:
    return files.pdf(8192, content=content)


def flate_bomb() -> bytes:
    """A stream of zeros, packed three times: a gigabyte to whoever opens it."""
    packed = zlib.compress(bytes(16 * MIB), 9)
    packed = zlib.compress(zlib.compress(packed * 16, 9), 9)
    return files.pdf(len(packed) + 4096, content=b"/Filter [/FlateDecode /FlateDecode /FlateDecode]\n" + packed)


def xref_loop() -> bytes:
    return RESUME + b"\nxref\n0 1\ntrailer << /Prev 9 /XRefStm 9 >>\nstartxref\n9\n%%EOF\n" * 50


def million_objects() -> bytes:
    return b"%PDF-1.7\n" + b"1 0 obj\n" * 600_000


def huge_docx_entry() -> bytes:
    """Says 10 GiB, and is a few bytes."""
    said: dict[str, int | str] = {"unpacked": 0xFFFFFFF0}
    return files.zip_of([*files.docx_entries(), files.Entry("word/media/a.bin", b"x", said=said, listed=said)])


def not_a_resume(markup: bytes) -> bytes:
    return markup + bytes(512)


_PATHS = ("../../etc/cron.d/x.pdf", "/etc/passwd.pdf", "C:\\x.pdf", "..%2f..%2fx.pdf", "%2e%2e/x.pdf", "....//x.pdf",
          "\\\\srv\\share\\x.pdf", "..\\..\\x.pdf", "a/../../b.pdf", "%252e%252e%252fx.pdf", "~/x.pdf", "x%00.pdf",
          "con.pdf", "-rf.pdf", "$(id).pdf", ";id.pdf", "'or 1=1.pdf", "<b>x</b>.pdf", "a" * 300 + ".pdf",
          ".htaccess.pdf", "a;b,c.pdf", 'q"uote.pdf')  # fmt: skip
_UNICODE = ("Lebensla\u0308ufe.pdf", "cv\u202efdp.pdf", "．．／x.pdf", "履歴書.pdf", "سيرة.pdf", "😀.pdf",
            "a\u200bb.pdf", "é" * 200 + ".pdf", "\u2066cv\u2069.pdf", "a\u2215b.pdf")  # fmt: skip
_ACTIVE = {
    "javascript": b"<< /S /JavaScript /JS (app.alert(1)) >>",
    "launch": b"<< /S /Launch /F (cmd.exe) >>",
    "embedded-file": b"<< /Type /EmbeddedFile /Length 2 >>",
    "uri": b"<< /S /URI /URI (http://evil.test/) >>",
    "encrypted": b"<< /Encrypt 9 0 R /Filter /Standard /V 5 /O (x) /U (y) >>",
}
_POSING = {
    "exe": files.exe(),
    "elf": files.elf(),
    "html": not_a_resume(b"<!doctype html><script>alert(1)</script>"),
    "html-with-a-pdf-inside": b"<html>%PDF-1.4" + bytes(512),
    "svg": not_a_resume(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
    "js": not_a_resume(b"alert(1)//%PDF-"),
    "php": not_a_resume(b"<?php system($_GET['c']); ?>"),
    "zip": files.plain_zip(),
    "png": not_a_resume(b"\x89PNG\r\n\x1a\n"),
    "docx": files.docx(),
    "doc": files.doc(),
    "text": b"just words",
    "one-byte": b"%",
    "a-cut-signature": b"%PDF",
}
_ARCHIVES = {
    "pdf": RESUME,
    "zip": files.plain_zip(),
    "jar": files.jar(),
    "apk": files.apk(),
    "xlsx": files.xlsx(),
    "odt": files.odt(),
    "doc": files.doc(),
    "truncated": files.docx()[:-30],
    "one-byte": b"P",
    "behind-a-script": b"#!/bin/sh\n" + files.docx(),
}
_BOMBS: dict[str, Callable[[], bytes]] = {
    "60-MiB": files.zip_bomb_docx,
    "lying-sizes": files.docx_lying_sizes,
    "10-GiB-said": huge_docx_entry,
    "many-entries": lambda: files.docx_many_entries(1001),
}

_POSING_AS_HTML = Part("resume", RESUME, "cv.pdf", headers=[b"Content-Type: text/html"])

FILE_ROWS = [
    Row(47, "empty", resume(b""), {422}, {"invalid-fields"}, names_the_resume),
    Row(47, "empty-docx", resume(b"", "cv.docx"), {422}, {"invalid-fields"}, names_the_resume),
    Row(47, "exactly-the-limit", resume(lambda: files.pdf(LIMIT)), {201}),
    Row(47, "one-byte-more", resume(lambda: files.pdf(LIMIT + 1)), {413}, {"body-too-large"}),
    Row(47, "a-docx-of-the-limit", resume(lambda: files.docx(LIMIT), "cv.docx"), {201}),
    Row(47, "a-MiB-more", resume(lambda: files.pdf(LIMIT + MIB)), {413}, {"body-too-large"}),
    *(Row(48, f"name-{name:.24}", named(name), {201}, (), is_a_plain_name) for name in _PATHS),
    *(Row(50, f"name-{name!r:.24}", named(name), {201}, (), is_a_plain_name) for name in _UNICODE),
    *(Row(51, f"name-{name}", named(name), {201}, (), is_a_plain_name) for name in ("cv.PDF", "cv.pdf ", "a.exe.pdf")),
    *(
        Row(51, f"name-{name!r}", named(name), {415}, KIND)
        for name in ("cv.pdf.exe", "cv.exe", "cv", "pdf", ".pdf", "", "cv.pdfx", "cv\u202efdp.exe", "cv.p df")
    ),
    *(Row(52, f"{kind}-as-pdf", resume(content), {415}, KIND) for kind, content in _POSING.items()),
    *(Row(53, f"{kind}-as-docx", resume(content, "cv.docx"), {415}, KIND) for kind, content in _ARCHIVES.items()),
    *(Row(55, f"pdf-with-{what}", resume(active_pdf(it)), {201}) for what, it in _ACTIVE.items()),
    Row(56, "flate-bomb", resume(flate_bomb), {201}, within_seconds=QUICK_SECONDS),
    Row(56, "xref-loop", resume(xref_loop), {201}, within_seconds=QUICK_SECONDS),
    Row(56, "million-objects", resume(million_objects), {201}, within_seconds=QUICK_SECONDS),
    Row(56, "truncated", resume(RESUME[:300]), {201, 415}, KIND),
    *(Row(57, f"docx-{what}", resume(it, "cv.docx"), {415, 422}, KIND) for what, it in _BOMBS.items()),
    Row(59, "billion-laughs", resume(files.docx_with_xml_bomb, "cv.docx"), {201}),
    Row(62, "eicar", resume(files.eicar_pdf), {201}),
    Row(63, "same-bytes-twice", same_bytes_twice, {201}, (), a_copy_each),
    Row(63, "odd-field-order", lambda g: g.post(list(reversed(g.lead()))), {201}),
    Row(63, "a-false-type", lambda g: g.post([*g.lead()[:3], _POSING_AS_HTML]), {201}, (), is_a_plain_name),
]  # fmt: skip
