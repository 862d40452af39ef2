"""The text fields of the public form: what a name and an e-mail address must be, and what they become.

Text is judged here and kept as typed; it is escaped where it is shown, never here. Files are in `resumes`.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from email_validator import EmailNotValidError, validate_email

from shared.problems import FieldError

NAME_MAX_CODE_POINTS: Final = 100
"""Longest name, counted after trimming and NFC."""

NAME_MAX_BYTES: Final = 1024
"""Longest name looked at: room for 100 code points in any spelling. NFC sorts marks in quadratic time."""

EMAIL_MAX_BYTES: Final = 254
"""Longest address (RFC 5321, section 4.5.3.1.3, less the angle brackets; RFC 3696, erratum 1690)."""

PERCENT_PASSES: Final = 8
"""How often percent-encoding is undone. Nobody nests it deeper by mistake."""

_PLANE_ENDS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))

HIDDEN: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f\u2028\u2029"  # controls and line breaks: mail headers, log lines, C strings
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Bidi_Control (UAX #9): text that reads as another text
    "\u206a-\u206f\ufff9-\ufffb"  # deprecated and interlinear format characters (UTR #20)
    "\ud800-\udfff\ufdd0-\ufdef" + _PLANE_ENDS + "]"  # surrogates and noncharacters
)
"""Characters that no name of a person or a file needs, and that change how the text around them is read."""

SPACES: Final = (
    " \t\r\n\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
"""What counts as a space at the edge of a text."""

INVISIBLE: Final = "\u00ad\u180e\u200b\u2060\ufeff"
"""Soft hyphen, zero-width space and the like. The joiners U+200C and U+200D are not: they are spelling."""

LOCAL_PART_MAX: Final = 64
"""Longest local part (RFC 5321, section 4.5.3.1.1)."""

_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")
_PLAIN_DOMAIN = re.compile(r"(?!.*--)[A-Za-z0-9.-]+")
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_EDGES = SPACES + INVISIBLE + "".join(sorted(_BLANK))
_NOTHING_TO_SEE = frozenset({"Cc", "Cf", "Cs", "Mc", "Me", "Mn", "Zl", "Zp", "Zs"})
_GROWING = re.compile("[\U0001f000-\U0001faff\U00020000-\U0003fffd]")
_PRIVATE_DOMAINS = (".internal", ".localdomain")


class FieldInvalid(Exception):  # noqa: N818 - reads as what it says
    """One field cannot be taken as it is. `error` names it and says what to do."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(error.detail)
        self.error = error


@dataclass(frozen=True)
class EmailAddress:
    """One mailbox: `address` as stored and written to, `key` as compared for uniqueness (case-folded)."""

    address: str
    key: str


def clean_name(field: str, raw: bytes) -> str:
    """A person's name from form field `field`: NFC, trimmed, 1 to 100 code points, otherwise as typed.

    Any script, emoji, markup and punctuation are welcome. Refused: bytes that are not UTF-8, nothing to see,
    controls and line breaks (at the edges TAB, CR and LF are trimmed), every Bidi_Control character, code points
    without a character. Percent-encoding is text too, unless undoing it would bring one of these to life.

    Raises `FieldInvalid`.
    """
    label = field.replace("_", " ")
    if len(raw) > NAME_MAX_BYTES:
        raise _name_too_long(field)
    name = unicodedata.normalize("NFC", _decoded(field, raw)).strip(_EDGES)
    if not any(_is_visible(char) for char in name):
        raise _invalid(field, f"Write your {label}.")
    if len(name) > NAME_MAX_CODE_POINTS:
        raise _name_too_long(field)
    if _hides(name):
        raise _invalid(
            field,
            f"Your {label} has hidden characters in it (control, line break or text direction). "
            "Please type it instead of pasting it.",
        )
    return name


def clean_email(field: str, raw: bytes) -> EmailAddress:
    """The one address in form field `field`: the local part as typed, the domain in lower-case ASCII. No DNS.

    Spaces around it are trimmed, nothing else. Plus tags are kept. An internationalised domain, typed or in
    punycode, is kept as punycode (IDNA 2008, UTS #46). A local part outside ASCII (RFC 6531) is accepted: the lead
    is kept and the staff are told even if the provider refuses the person's e-mail, which then ends visibly as
    failed. Refused are quoted local parts, comments, display names, lists, address literals, domains without a dot,
    and private or special-use domains (RFC 6761), save `.test` and `.example`, which people try things out with.

    Raises `FieldInvalid`.
    """
    typed = raw.strip(b" ")
    if not typed:
        raise _invalid(field, "Write your e-mail address.")
    if len(typed) > EMAIL_MAX_BYTES:
        raise _invalid(field, f"An e-mail address is at most {EMAIL_MAX_BYTES} bytes long.")
    text = _decoded(field, typed)
    local = unicodedata.normalize("NFC", text.partition("@")[0])
    domain = _domain(text)
    if domain is None or _hides(local):
        raise _invalid(field, "This must be one e-mail address such as ann@example.com.")
    address = f"{local}@{domain}"
    return EmailAddress(address=address, key=address.casefold())


def email_key(typed: str) -> str:
    """What an address is compared by. What is no address is compared as it is, and equals none. Never raises."""
    try:
        return clean_email("email", typed.encode(errors="replace")).key
    except FieldInvalid:
        return typed.strip().casefold()


def percent_decoded(text: str) -> str | None:
    """`text` with percent-encoding undone until nothing changes; what is not UTF-8 becomes U+FFFD.

    None where that takes more than `PERCENT_PASSES`: somebody hides something. Never raises.
    """
    for _ in range(PERCENT_PASSES):
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return text
        text = decoded
    return None


def _domain(text: str) -> str | None:
    """The ASCII domain of the address `text`, or None where it is not an address we would write to."""
    local, _, domain = text.rpartition("@")
    if len(local) <= LOCAL_PART_MAX and _PLAIN_LOCAL.fullmatch(local) and _PLAIN_DOMAIN.fullmatch(domain):
        return _domain_of_anybody(domain)
    return _judged(text)


@lru_cache(1024)
def _domain_of_anybody(domain: str) -> str | None:
    """Most people share a few domains, and most local parts leave no question."""
    return _judged(f"anybody@{domain}")


def _judged(text: str) -> str | None:
    try:
        checked = validate_email(
            text,
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            allow_empty_local=False,
            strict=True,
            check_deliverability=False,
            globally_deliverable=True,
            test_environment=True,  # opens `.test`; with it comes the bare `@test`, closed again below
        )
    except EmailNotValidError:
        return None
    domain = checked.ascii_domain
    if "." not in domain or domain.endswith(_PRIVATE_DOMAINS):
        return None
    return domain


def _decoded(field: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _invalid(field, "This is not UTF-8 text.") from None


def _is_visible(char: str) -> bool:
    return char not in _BLANK and unicodedata.category(char) not in _NOTHING_TO_SEE


def _hides(text: str) -> bool:
    """Whether `text`, or what percent-decoding would make of it, holds a character that no name needs."""
    if text.isprintable() and "%" not in text:
        return False
    decoded = percent_decoded(text)
    if decoded is None:
        return True
    return HIDDEN.search(text + decoded) is not None or any(map(_is_unassigned, text + decoded))


def _is_unassigned(char: str) -> bool:
    # Ideographs and emoji newer than this Python's tables come in blocks that Unicode keeps for them.
    return unicodedata.category(char) == "Cn" and _GROWING.match(char) is None


def _name_too_long(field: str) -> FieldInvalid:
    return _invalid(field, f"This is too long: at most {NAME_MAX_CODE_POINTS} characters.")


def _invalid(field: str, detail: str) -> FieldInvalid:
    return FieldInvalid(FieldError(field, detail))
