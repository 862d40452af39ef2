"""The words of the two e-mails: the same in HTML and text, and what a person typed stays what they typed."""

import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest
from jinja2 import Environment, UndefinedError

from services.notifier.email import display_name, plain_line
from services.notifier.render import (
    Rendered,
    instant_in_words,
    load_templates,
    prospect_name,
    reads_like_a_file_name,
    render_prospect,
    render_staff,
    size_in_words,
    unlinked,
)
from shared.events import LeadCreated, ResumeFacts

LEAD_ID = "01920f00-0000-7000-8000-000000000001"
HOSTILE = [
    "{{7*7}}",
    "${7*7}",
    '{% include "/etc/passwd" %}',
    "<%= 7*7 %>",
    "-first_name-",
    "%recipient%",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "&lt;b&gt;",
    "O'Brien & Söhne",
    "محمد 😀",
    "=1+1",
]


class Seen(HTMLParser):
    """The text that a reader sees, the tags, and the attributes that could act."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[str] = []
        self.links: list[str] = []
        self.acting: list[str] = []
        self._hidden = ""
        self.feed(document)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.acting += [name for name, _ in attributes if name.startswith("on") or name in {"src", "background"}]
        self.links += [value for name, value in attributes if name == "href"]
        if tag in {"style", "title"}:
            self._hidden = tag

    def handle_endtag(self, tag):
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data):
        if not self._hidden:
            self.text += data


@pytest.fixture
def templates() -> Environment:
    return load_templates()


def a_lead(first_name="Ann", last_name="Lee", filename="cv.pdf", **changes) -> LeadCreated:
    given = {
        "lead_id": LEAD_ID,
        "first_name": first_name,
        "last_name": last_name,
        "email": "ann+jobs@example.org",
        "resume": ResumeFacts(filename=filename, content_type="application/pdf", size_bytes=84_211, sha256="0" * 64),
        "created_at": datetime(2025, 11, 24, 19, 53, 7, tzinfo=UTC),
    }
    return LeadCreated(**{**given, **changes})


def prospect(lead: LeadCreated, templates: Environment) -> Rendered:
    return render_prospect(lead, templates=templates, house_name="Example & Co")


def staff(lead: LeadCreated, templates: Environment) -> Rendered:
    return render_staff(lead, templates=templates, public_url="https://leads.example.com/")


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200c\xa0]+", " ", text)


def test_the_prospect_is_thanked_told_what_we_have_and_what_happens_next(templates):
    letter = prospect(a_lead(), templates)
    assert letter.subject == "Thank you, we have your resume"
    for said in (Seen(letter.html).text, letter.text):
        for words in ("Hello Ann, and thank you", "cv.pdf", "What happens next", LEAD_ID, "Example & Co"):
            assert words in squeezed(said)


def test_the_staff_see_who_what_when_and_where(templates):
    notice = staff(a_lead(), templates)
    assert notice.subject == "New lead: Ann Lee"
    link = f"https://leads.example.com/leads/{LEAD_ID}"
    for said in (Seen(notice.html).text, notice.text):
        for words in ("Ann Lee", "ann+jobs@example.org", "cv.pdf (84 KB)", "24 Nov 2025, 19:53:07 UTC", link):
            assert words in squeezed(said)
    assert set(Seen(notice.html).links) == {link, "mailto:ann%2Bjobs@example.org"}


@pytest.mark.parametrize("render", [prospect, staff])
def test_the_plain_text_says_all_that_the_html_says(templates, render):
    rendered = render(a_lead(), templates)
    shown = squeezed(Seen(rendered.html).text)
    flat_text = squeezed(rendered.text)
    for line in ("and thank you", "arrived complete", "New lead", "viruses", "simply ignore it"):
        assert (line in shown) == (line in flat_text)


@pytest.mark.parametrize("typed", HOSTILE)
def test_what_was_typed_is_literal_text_in_every_part(templates, typed):
    lead = a_lead(first_name=typed, last_name=typed, filename=f"{typed}.pdf")
    notice = staff(lead, templates)
    assert f"{typed} {typed}" in Seen(notice.html).text
    assert f"{typed}.pdf" in Seen(notice.html).text
    assert f"{typed} {typed}\n" in notice.text
    assert notice.subject == f"New lead: {typed} {typed}"
    letter = prospect(lead, templates)
    assert f"Hello {typed}," in Seen(letter.html).text
    assert f"Hello {typed}," in letter.text


def test_settings_and_addresses_are_escaped_too(templates):
    lead = a_lead(email='"<b>&"@example.org')
    letter = render_prospect(lead, templates=templates, house_name="<b>&Co")
    notice = staff(lead, templates)
    assert "<b>" not in letter.html + notice.html
    assert "<b>&Co" in Seen(letter.html).text
    assert '"<b>&"@example.org' in Seen(notice.html).text


@pytest.mark.parametrize("typed", HOSTILE)
@pytest.mark.parametrize("render", [prospect, staff])
def test_what_was_typed_adds_no_tag_that_acts(templates, render, typed):
    plain = Seen(render(a_lead(), templates).html)
    hostile = Seen(render(a_lead(first_name=typed, last_name=typed, filename=f"{typed}.pdf"), templates).html)
    assert hostile.tags == plain.tags
    assert hostile.acting == plain.acting == []
    assert hostile.links == plain.links


def test_nothing_is_fetched_from_elsewhere(templates):
    for rendered in (prospect(a_lead(), templates), staff(a_lead(), templates)):
        assert not re.search(r"url\(|@import|@font-face|<img|<link|<script", rendered.html)


@pytest.mark.parametrize("typed", ["Ann\r\nBcc: x@evil.test", "Ann\x00\x1b[31m", "Ann\u2028Lee", "Ann\x85Lee"])
def test_a_subject_is_one_line_of_visible_text(templates, typed):
    for subject in (staff(a_lead(first_name=typed), templates).subject, plain_line(typed, 80), display_name(typed)):
        assert subject.splitlines() == [subject]
        assert subject.isprintable()


def test_a_long_name_is_cut_and_not_greeted(templates):
    lead = a_lead(first_name="A" * 1000, last_name="B" * 1000)
    notice = staff(lead, templates)
    assert len(notice.subject) == 200
    assert notice.subject.endswith("…")
    assert "Hello, and thank you" in prospect(lead, templates).text
    assert prospect_name(lead) is None


def test_direction_overrides_are_gone_and_each_name_stands_in_its_own_direction(templates):
    notice = staff(a_lead(first_name="\u202egpj\u2066", last_name="محمد", filename="cv\u202efdp.exe"), templates)
    for part in (notice.subject, notice.html, notice.text):
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", part)
    assert '<span dir="auto" style="unicode-bidi:isolate; font-weight:600;">gpj محمد</span>' in notice.html


def test_joiners_stay_for_persian_and_for_families():
    assert plain_line("می\u200cخواهم 👨\u200d👩\u200d👧", 80) == "می\u200cخواهم 👨\u200d👩\u200d👧"


@pytest.mark.parametrize(
    "advert",
    [
        "http://evil.test",
        "www.evil",
        "evil.test/win",
        "Evil.Test",
        "win@evil",
        "evil．test",
        "evil。test",
        "call 0900123456",
        "You have won a prize, come and get it today right now",
        "",
        "\u200b",
    ],
)
def test_an_advert_in_the_name_is_not_sent_to_a_stranger(templates, advert):
    lead = a_lead(first_name=advert)
    letter = prospect(lead, templates)
    assert "Hello, and thank you" in letter.text
    assert "Hello, and thank you" in Seen(letter.html).text
    assert prospect_name(lead) is None
    assert prospect_name(a_lead(last_name=advert)) is None
    if advert.isprintable() and advert:
        assert advert not in letter.text + letter.html + letter.subject


@pytest.mark.parametrize("name", ["Ann", "J. R. R.", "O'Brien-Smith", "Ñandú", "用户", "محمد 😀", "Jean-Luc", "İpek"])
def test_a_name_is_greeted_as_it_is(templates, name):
    assert f"Hello {name}, and" in prospect(a_lead(first_name=name), templates).text
    assert prospect_name(a_lead(first_name=name)) == f"{name} Lee"


@pytest.mark.parametrize(
    "filename", ["cv.pdf", "A.Lee.CV.pdf", "my resume (2025).docx", "سيرة ذاتية.pdf", "履歴書.PDF"]
)
def test_a_usual_file_name_is_named_to_the_prospect(templates, filename):
    assert reads_like_a_file_name(filename)
    assert f"We have your resume, {filename}." in prospect(a_lead(filename=filename), templates).text


@pytest.mark.parametrize(
    "filename", ["win at evil.test now.pdf", "www.evil.test.pdf", "a@evil.test.pdf", "x" * 300 + ".pdf"]
)
def test_a_file_name_that_is_a_message_is_not(templates, filename):
    letter = prospect(a_lead(filename=filename), templates)
    assert "evil" not in letter.text + letter.html
    assert "We have your resume." in letter.text
    assert "We have your resume." in Seen(letter.html).text


def test_staff_see_a_link_in_a_name_as_typed_but_not_as_a_link(templates):
    notice = staff(a_lead(first_name="http://evil.test/win", filename="www.evil.test.pdf"), templates)
    assert "http://evil.test/win Lee" in Seen(notice.html).text
    assert not re.search(r"evil\.test|http://|www\.", notice.html)
    assert unlinked("cv.pdf") == "cv.pdf"
    assert unlinked("a@b.test <b>") == "a<span>@</span>b<span>.</span>test &lt;b&gt;"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("Ann; Lee, Jr.", "Ann Lee Jr."),
        ('"Ann" <x@evil.test>', "Ann x@evil.test"),
        ("Ann\r\nTo: x@evil.test", "Ann To: x@evil.test"),
        ("a\\b", "a b"),
        (";,<>", ""),
        ("A" * 200, "A" * 99 + "…"),
    ],
)
def test_a_display_name_cannot_end_early(typed, shown):
    assert display_name(typed) == shown


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (1, "1 byte"),
        (340, "340 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (5_242_880, "5.2 MB"),
    ],
)
def test_sizes_read_as_people_say_them(size_bytes, words):
    assert size_in_words(size_bytes) == words


def test_instants_are_told_in_utc():
    assert (
        instant_in_words(datetime(2025, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))))
        == "31 Dec 2024, 23:30:00 UTC"
    )


def test_a_name_that_a_template_does_not_know_is_an_error_and_not_a_gap(templates):
    with pytest.raises(UndefinedError):
        templates.get_template("staff.txt").render(name="Ann")
