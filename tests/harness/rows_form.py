"""Bad inputs, sections B and C: what a form may say, and in which words."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage

from tests.harness.bad_inputs import RESUME, Ground, Row, fields_at_fault
from tests.harness.raw_http import BOUNDARY, Part, RawAnswer, form

Also = Callable[[Ground, Sequence[RawAnswer]], Awaitable[None]]
Send = Callable[[Ground], Awaitable[RawAnswer]]

INVALID = {"invalid-fields"}
MULTIPART = {"malformed-multipart"}
BOTH = INVALID | MULTIPART
BOMBS = 40
PROSPECT_MAILS_PER_DAY = 5


def lead(*more: Part, **other: bytes | str) -> Send:
    """A good form with `other` values, and `more` parts behind them."""
    return lambda ground: ground.post([*ground.lead(**other), *more])


def disposition(value: str) -> Send:
    """A form whose resume stands under this Content-Disposition."""
    part = Part("", RESUME, disposition=f"Content-Disposition: {value}".encode("utf-8", "surrogateescape"))

    async def send(ground: Ground) -> RawAnswer:
        ground.expect_resume(RESUME)
        return await ground.post([*ground.lead()[:3], part])

    return send


def without(name: str) -> Send:
    """A form that lacks a field."""
    return lambda ground: ground.post([part for part in ground.lead() if part.name != name])


def names(*fields: str) -> Also:
    """The 422 names these fields and no others."""

    async def check(_: Ground, answers: Sequence[RawAnswer]) -> None:
        assert set(fields_at_fault(answers[0])) == set(fields)

    return check


def kept_as(**values: str) -> Also:
    """The lead shows these values."""

    async def check(_: Ground, answers: Sequence[RawAnswer]) -> None:
        shown = answers[0].json
        assert {name: shown[name] for name in values} == values

    return check


async def mails_are_tame(ground: Ground, answers: Sequence[RawAnswer]) -> None:
    """Two e-mails to two people, one line each for every header, the name as typed, nothing live, nothing expanded."""
    first_name = answers[0].json["first_name"]
    mails = ground.new_mails()
    assert sorted(len(mail.get_all("To", [])) for mail in mails) == [1, 1]
    assert not [mail for mail in mails if mail["Bcc"] or mail["Cc"]]
    for mail in mails:
        text, html = _bodies(mail)
        assert not [value for value in mail.values() if "\n" in value or "\r" in value]
        assert first_name in " ".join(text.split()) or mail["To"] != answers[0].json["email"]
        assert "<script>" not in html
        assert "<img src=x" not in html
        assert "1787569" not in html + text
        assert "root:" not in html + text


async def found_by_search(ground: Ground, answers: Sequence[RawAnswer]) -> None:
    """The staff's search takes the name literally: this lead, and none that a wildcard would also bring."""
    name = answers[0].json["last_name"]
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    listed = await ground.ask_as_staff("GET", f"/leads?limit=200&q={quoted}")
    assert listed.status == 200
    assert [one["last_name"] for one in listed.json["items"]] == [name]


def _bodies(mail: EmailMessage) -> tuple[str, str]:
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


async def composed_and_decomposed(ground: Ground) -> list[RawAnswer]:
    """The same name in NFC and NFD, and the same address in two cases: the second is the first one's duplicate."""
    first = await ground.post(ground.lead(first_name="Ñandú", email="NFC@people.test"))
    second = await ground.post(ground.lead(first_name="N\u0303andu\u0301", email="nfc@People.Test"))
    assert first.json["first_name"] == "Ñandú"
    return [first, second]


async def mail_bomb(ground: Ground) -> list[RawAnswer]:
    """One mailbox, many spellings, at the same time."""
    sends = [ground.post(ground.lead(email=f"victim+{number}@people.test")) for number in range(BOMBS)]
    return list(await asyncio.gather(*sends))


async def five_mails_to_the_victim(ground: Ground, answers: Sequence[RawAnswer]) -> None:
    assert len(answers) == BOMBS
    prospects = [mail for mail in ground.new_mails() if "victim" in str(mail["To"])]
    assert len(prospects) == PROSPECT_MAILS_PER_DAY


_FIELD = 'Content-Disposition: form-data; name="{}"'
_TWO_ADDRESSES = Part("email", b"other@people.test")
_FORM_DATA = 'form-data; name="resume"; '

MULTIPART_ROWS = [
    Row(25, "two-resumes", lead(Part("resume", RESUME, "b.pdf")), {422}, INVALID, names("resume")),
    Row(26, "two-addresses", lead(_TWO_ADDRESSES), {422}, INVALID, names("email")),
    Row(26, "an-address-as-file", lead(Part("email", b"a@people.test", "a.txt")), {422}, INVALID, names("email")),
    *(
        Row(28, f"disposition-{number}", disposition(value), {400, 422}, BOTH)
        for number, value in enumerate(
            (
                _FORM_DATA + "filename=\"a.pdf\"; filename*0*=utf-8''evil.html",
                _FORM_DATA + "filename*=utf-8''a.pdf",
                "form-data; name*=utf-8''resume; filename=\"a.pdf\"",
                'form-data; name="first_name"; name*=utf-8\'\'resume; filename="a.pdf"',
                _FORM_DATA + 'filename*0="a"; filename*1=".pdf"',
                _FORM_DATA + 'filename="a.pdf"; filename="b.exe"',
                'form-data; name="first_name"; name="resume"; filename="a.pdf"',
                'form-data; name="resume"; NAME="email"; filename="a.pdf"',
                'attachment; name="resume"; filename="a.pdf"',
                'form-data; filename="a.pdf"',
                "form-data",
                "",
                'form-data; name="resume"',
                'form-data; name="\udcff"; filename="a.pdf"',
                'form-data; name="Resume"; filename="a.pdf"',
                'form-data; name="resume[]"; filename="a.pdf"',
            )
        )
    ),
    Row(28, "two-dispositions", lead(Part("x", b"", headers=[_FIELD.format("y").encode()])), {400}, MULTIPART),
    Row(28, "base64", lead(Part("x", b"eA==", headers=[b"Content-Transfer-Encoding: base64"])), {400}, MULTIPART),
    *(
        Row(29, f"field-{name}", lead(Part(name, b"REACHED_OUT")), {422}, INVALID, names(name))
        for name in ("id", "status", "state", "created_at", "is_admin", "storage_key", "resume_path", "_charset_")
    ),
    Row(29, "a-field-before-the-others", lambda g: g.post([Part("state", b"x"), *g.lead()]), {422}, INVALID,
        names("state")),
    Row(29, "every-fault-is-named", lambda g: g.post([Part(n, b" ") for n in ("state", "email", "first_name")]), {422},
        INVALID, names("state", "email", "first_name", "last_name", "resume")),
    *(Row(29, f"no-{name}", without(name), {422}, INVALID, names(name)) for name in ("email", "last_name", "resume")),
    Row(29, "an-empty-form", lambda g: g.post([]), {400, 422}, BOTH),
    Row(29, "no-form-at-all", lambda g: g.post_body(b""), {400}, MULTIPART),
    Row(29, "half-a-form", lambda g: g.post_body(form(g.lead())[:-60]), {400}, MULTIPART),
    Row(29, "another-boundary", lambda g: g.post_body(form(g.lead(), "other")), {400}, MULTIPART),
    Row(29, "bare-line-feeds", lambda g: g.post_body(form(g.lead()).replace(b"\r\n", b"\n")), {400}, MULTIPART),
    Row(29, "a-form-in-a-form", lead(Part("email", form([Part("email", b"a@b.test")], "in"))), {422}, INVALID),
    Row(29, "the-boundary-in-a-value", lead(first_name=f"Ann--{BOUNDARY}"), {201}),
]  # fmt: skip


def _long_address(length: int) -> str:
    return f"{'x' * 64}@{'b' * (length - 193)}.{'c' * 61}.{'d' * 60}.test"


_BLANK = {"empty": "", "spaces": "   ", "tabs": "\t\r\n", "zwsp": "\u200b", "shy": "\u00ad", "wj": "\u2060\u2060",
          "nbsp": "\u00a0", "hangul-filler": "\u3164", "combining": "\u0301"}  # fmt: skip
_CONTROLS = ("\0", "\x01", "\x07", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\ufffe")
_INJECTIONS = ("\r\nBcc: x@evil.test", "%0d%0aBcc: x@evil.test", "\u2028Bcc: x@evil.test", "\x85Bcc: x@evil.test",
               "\nSubject: x", "%250d%250aBcc: x", "\rX: y")  # fmt: skip
_MARKUP = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "&lt;script&gt;")
_TEMPLATES = (
    "{{1337*1337}}",
    "${1337*1337}",
    '{% include "/etc/passwd" %}',
    "<%= 1337*1337 %>",
    "-first_name-",
    "#{1337*1337}",
    "%first%",
)
_FORMULAS = ('=HYPERLINK("http://x")', "+1", "-1+1", "@SUM(A1)", "|calc", "\\0=1")
_SQL = ("'; DROP TABLE leads;--", "%x%", "a_b", "a\\b", '" OR ""="', "100%", "__")
_BIDI = ("\u202eeel", "a\u2066b\u2069", "\u200fx", "a\u061cb")
_SCRIPTS = ("😀 Ann", "李小龙", "محمد", "O'Brien-Smith", "İstanbul", "Zoë 👩‍👩‍👧", "a" * 100, "ﷺ", "Nguyễn")
_NOT_UTF8 = (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"caf\xe9", b"\xc0\x80")
_NO_ADDRESS = ("", "ann", "a@b@c.test", ".a@b.test", "a.@b.test", "a..b@c.test", "x" * 65 + "@b.test",
               _long_address(255), "a@b", "a@localhost", "a@[127.0.0.1]", "a@127.0.0.1",
               '"a b"@c.test', "a(x)@c.test", "@b.test", "a@", "a@.test", "a@b..test", "a@-b.test", "a b@c.test",
               "a@b.internal", "a@b_c.test", "a@b.test.", "a@xn--.test",
               "mailto:a b@c.test")  # fmt: skip
_MANY_ADDRESSES = ("a@b.test, c@d.test", "Name <a@b.test>", "a@b.test;c@d.test", "a@b.test\n", "a@b.test\r\n",
                   "a@b.test c@d.test", "<a@b.test>", "a@b.test%0a", "a@b.test\t")  # fmt: skip

FIELD_ROWS = [
    *(Row(32, f"name-{n}", lead(first_name=v), {422}, INVALID, names("first_name")) for n, v in _BLANK.items()),
    Row(32, "a-blank-address", lead(email="   "), {422}, INVALID, names("email")),
    Row(32, "a-name-of-101", lead(last_name="x" * 101), {422}, INVALID, names("last_name")),
    *(Row(34, f"control-{v!r}", lead(first_name=f"A{v}n"), {422}, INVALID, names("first_name")) for v in _CONTROLS),
    *(Row(34, f"control-{v!r}-in-address", lead(email=f"a{v}n@b.test"), {422}, INVALID) for v in _CONTROLS),
    *(Row(35, f"name-{v!r:.12}", lead(first_name="Ann" + v), {422}, INVALID, names("first_name")) for v in _INJECTIONS),
    *(Row(35, f"address-{v!r:.12}", lead(email="a@b.test" + v), {422}, INVALID, names("email")) for v in _INJECTIONS),
    *(Row(36, f"markup-{v:.20}", lead(first_name=v), {201}, (), mails_are_tame) for v in _MARKUP),
    *(Row(37, f"template-{v:.12}", lead(first_name=v), {201}, (), mails_are_tame) for v in _TEMPLATES),
    *(Row(38, f"formula-{v:.8}", lead(first_name=v), {201}, (), kept_as(first_name=v)) for v in _FORMULAS),
    *(Row(39, f"sql-{v:.12}", lead(last_name=v), {201}, (), found_by_search) for v in _SQL),
    *(Row(40, f"bidi-{v!r}", lead(first_name=v), {422}, INVALID, names("first_name")) for v in _BIDI),
    Row(40, "a-homoglyph", lead(first_name="аdmin"), {201}, (), kept_as(first_name="аdmin")),
    *(Row(41, f"script-{v:.12}", lead(first_name=v), {201}, (), kept_as(first_name=v)) for v in _SCRIPTS),
    *(Row(41, f"bytes-{v!r}", lead(last_name=v), {422, 400}, INVALID, names("last_name")) for v in _NOT_UTF8),
    Row(41, "one-person-however-composed", composed_and_decomposed, {201, 400}, {"duplicate-email"}),
    *(Row(42, f"address-{v:.20}", lead(email=v), {422}, INVALID, names("email")) for v in _NO_ADDRESS),
    *(Row(43, f"addresses-{v!r:.22}", lead(email=v), {422}, INVALID, names("email")) for v in _MANY_ADDRESSES),
    Row(42, "address-of-254", lead(email=_long_address(254)), {201}),
    Row(44, "a-plus-tag", lead(email="ann+jobs@people.test"), {201}, (), kept_as(email="ann+jobs@people.test")),
    Row(44, "idn", lead(email="ann@bücher.example"), {201}, (), kept_as(email="ann@xn--bcher-kva.example")),
    Row(44, "smtputf8", lead(email="用户@例子.公司"), {201}, (), kept_as(email="用户@xn--fsqu00a.xn--55qx5d")),
    Row(44, "punycode", lead(email="bob@xn--bcher-kva.example"), {201}, (), kept_as(email="bob@xn--bcher-kva.example")),
    Row(44, "case", lead(email="Cy.Lee@People.TEST"), {201}, (), kept_as(email="Cy.Lee@people.test")),
    Row(44, "duplicate", lambda g: g.post(g.lead(email="cy.lee@people.test")), {400}, {"duplicate-email"}),
    Row(44, "idn-duplicate", lead(email="ann@BÜCHER.example"), {400}, {"duplicate-email"}),
    Row(45, "mail-bomb", mail_bomb, {201}, (), five_mails_to_the_victim,
        dropped_mails=BOMBS - PROSPECT_MAILS_PER_DAY),
]  # fmt: skip
