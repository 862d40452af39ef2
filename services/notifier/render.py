"""The words of our two e-mails, from the templates beside this file: HTML and its plain text twin say the same.

What a person typed is shown and never obeyed: it becomes one line of visible text before it meets a template, it is
escaped in HTML, and no template of SendGrid's sees it. Two things are not left to the reader's mail program:

- A prospect's address is not verified, so anybody can have us write to anybody. Our letter to them greets by name, and
  names the file, only if these could not carry a message of their own (`reads_like_a_name`, `reads_like_a_file_name`).
- Mail programs turn `evil.test` in a text into a link. Where staff must see what was typed, the HTML breaks it with an
  empty-looking `<span>`. The text twin shows it unbroken: readers of plain text see where a link leads.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from services.notifier.email import display_name, plain_line
from shared.events import LeadCreated

MAX_SHOWN_NAME_CHARACTERS = 200
MAX_SHOWN_FILENAME_CHARACTERS = 120
MAX_SHOWN_ADDRESS_CHARACTERS = 320
MAX_GREETED_CHARACTERS = 50
"""Longer than nearly every first name, shorter than an advertisement."""

_FOLDER = Path(__file__).parent / "templates"
_LINK_LIKE = re.compile(r"://|www\.|@|\w\.\w{2,}|\d{5,}", re.IGNORECASE)
_LINK_LIKE_IN_FILENAME = re.compile(r"://|www\.|@|\.\w{2,}[/\s]", re.IGNORECASE)
_MADE_INTO_LINKS = re.compile(r"(?<=\w)\.(?=\w)(?!(?:pdf|docx?|odt|rtf|txt)$)|:(?=//)|@", re.IGNORECASE)
_KILO = 1000


@dataclass(frozen=True)
class Rendered:
    """One e-mail's words."""

    subject: str
    html: str
    text: str


def load_templates() -> Environment:
    """The templates, ready to be passed to the functions below: built once, escaping in HTML, strict about names."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=select_autoescape(disabled_extensions=("txt",), default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        keep_trailing_newline=True,
    )
    environment.filters["unlinked"] = unlinked
    return environment


def render_prospect(lead: LeadCreated, *, templates: Environment, house_name: str) -> Rendered:
    """The thank-you letter to the person who sent a resume. Nothing typed by them stands in its subject."""
    first_name = plain_line(lead.first_name, MAX_SHOWN_NAME_CHARACTERS)
    filename = plain_line(lead.resume.filename, MAX_SHOWN_FILENAME_CHARACTERS)
    return _render(
        "prospect",
        "Thank you, we have your resume",
        templates,
        greeted=first_name if reads_like_a_name(first_name) else None,
        filename=filename if reads_like_a_file_name(filename) else None,
        house_name=plain_line(house_name, MAX_SHOWN_NAME_CHARACTERS),
        reference=lead.lead_id,
    )


def render_staff(lead: LeadCreated, *, templates: Environment, public_url: str) -> Rendered:
    """The notice to the staff, with all that they need to decide whether to look now."""
    name = plain_line(f"{lead.first_name} {lead.last_name}", MAX_SHOWN_NAME_CHARACTERS)
    return _render(
        "staff",
        plain_line(f"New lead: {name}", MAX_SHOWN_NAME_CHARACTERS),
        templates,
        name=name,
        email=plain_line(lead.email, MAX_SHOWN_ADDRESS_CHARACTERS),
        mailto="mailto:" + quote(lead.email, safe="@"),
        filename=plain_line(lead.resume.filename, MAX_SHOWN_FILENAME_CHARACTERS),
        size=size_in_words(lead.resume.size_bytes),
        received=instant_in_words(lead.created_at),
        reference=lead.lead_id,
        link=f"{public_url.rstrip('/')}/leads/{lead.lead_id}",
    )


def prospect_name(lead: LeadCreated) -> str | None:
    """The display name for the prospect's address, or none where it reads like something else than a name."""
    parts = [plain_line(part, MAX_SHOWN_NAME_CHARACTERS) for part in (lead.first_name, lead.last_name)]
    return display_name(" ".join(parts)) if all(map(reads_like_a_name, parts)) else None


def reads_like_a_name(text: str) -> bool:
    """Whether `text` could be shown to a stranger as a name: no link, address or telephone number, and not long."""
    flat = _flattened(text)
    return 0 < len(flat) <= MAX_GREETED_CHARACTERS and _LINK_LIKE.search(flat) is None


def reads_like_a_file_name(text: str) -> bool:
    """Whether `text` could be shown to a stranger as a file's name: `A.Lee.CV.pdf` can, `win at x.test now` cannot."""
    flat = _flattened(text)
    return 0 < len(flat) < MAX_SHOWN_FILENAME_CHARACTERS and _LINK_LIKE_IN_FILENAME.search(flat) is None


def unlinked(text: str) -> Markup:
    """`text` escaped for HTML and broken invisibly where a mail program would find a link in it."""
    pieces: list[Markup] = []
    start = 0
    for found in _MADE_INTO_LINKS.finditer(text):
        pieces += [escape(text[start : found.start()]), Markup("<span>%s</span>") % found.group()]
        start = found.end()
    return Markup().join([*pieces, escape(text[start:])])


def size_in_words(size_bytes: int) -> str:
    """`340 bytes`, `84 KB`, `1.2 MB`: decimal units, as mail programs show them."""
    if size_bytes < _KILO:
        return f"{size_bytes} byte{'' if size_bytes == 1 else 's'}"
    if round(size_bytes / _KILO) < _KILO:
        return f"{round(size_bytes / _KILO)} KB"
    return f"{size_bytes / _KILO**2:.1f} MB"


def instant_in_words(at: datetime) -> str:
    """`24 Nov 2025, 19:53:07 UTC`."""
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S} UTC"


def _render(template: str, subject: str, templates: Environment, **shown: str | None) -> Rendered:
    return Rendered(
        subject=subject,
        html=templates.get_template(f"{template}.html").render(**shown),
        text=templates.get_template(f"{template}.txt").render(**shown),
    )


def _flattened(text: str) -> str:
    """Full-width and ideographic look-alikes of `.`, `/`, `@` and digits as the plain ones they stand for."""
    return unicodedata.normalize("NFKC", text).replace("\u3002", ".")
