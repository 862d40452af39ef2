"""What SendGrid's `POST /v3/mail/send` refuses with 400, as its pages say, in pure functions over the JSON document.

Sources: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors (messages and fields) and
https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send (limits). Only what a sender of plain e-mails
can get wrong is here: no attachments, no templates, no schedules.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

MAX_BODY_BYTES = 30 * 1024 * 1024
MAX_PERSONALIZATIONS = 1_000
MAX_RECIPIENTS = 1_000
MAX_CUSTOM_ARGS_BYTES = 10_000
MAX_CATEGORIES = 10
MAX_CATEGORY_CHARACTERS = 255

HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message."

_TOP_LEVEL = frozenset(
    [
        "personalizations",
        "from",
        "reply_to",
        "reply_to_list",
        "subject",
        "content",
        "attachments",
        "template_id",
        "sections",
        "headers",
        "categories",
        "custom_args",
        "send_at",
        "batch_id",
        "asm",
        "ip_pool_name",
        "mail_settings",
        "tracking_settings",
    ]
)
_CONTENT_ORDER = ("text/plain", "text/x-amp-html", "text/html")
_RESERVED_HEADERS = frozenset(
    [
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    ]
)
_ADDRESS = re.compile(r"[!#$%&'*+/=?^_`{|}~.A-Za-z0-9-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_LINE_BREAK = re.compile(r"[\r\n]")


@dataclass(frozen=True)
class Fault:
    """One entry of SendGrid's error body."""

    message: str
    field: str | None
    help: str | None = None


def error_body(*faults: Fault) -> bytes:
    """`{"errors": [{"message", "field", "help"}]}`."""
    return json.dumps({"errors": [asdict(fault) for fault in faults]}).encode()


def faults(document: Any) -> list[Fault]:
    """Everything that SendGrid would refuse in this request, or nothing."""
    if not isinstance(document, dict):
        return [_fault("Bad Request", None)]
    rules = (_unknown, _personalizations, _sender, _subject, _content, _custom_args, _categories, _headers, _sandbox)
    return [fault for rule in rules for fault in rule(document)]


def is_sandboxed(document: dict[str, Any]) -> bool:
    """Whether a request without faults asks to be checked and not sent."""
    return bool(document.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"))


def recipients(document: dict[str, Any]) -> list[str]:
    """Every address that the request sends to."""
    found = document.get("personalizations")
    blocks = [block for block in found if isinstance(block, dict)] if isinstance(found, list) else []
    return [str(entry.get("email")) for block in blocks for entry in _entries(block)]


def _fault(message: str, field: str | None) -> Fault:
    return Fault(message, field, HELP + field if field else None)


def _entries(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for kind in ("to", "cc", "bcc") for entry in block.get(kind) or [] if isinstance(entry, dict)]


def _unknown(document: dict[str, Any]) -> Iterator[Fault]:
    for name in sorted(document.keys() - _TOP_LEVEL):
        yield _fault(f"Additional property {name} is not allowed", None)


def _personalizations(document: dict[str, Any]) -> Iterator[Fault]:
    blocks = document.get("personalizations")
    if not isinstance(blocks, list) or not blocks:
        yield _fault(
            "The personalizations field is required and must have at least one personalization.", "personalizations"
        )
        return
    if len(blocks) > MAX_PERSONALIZATIONS:
        yield _fault(
            "The personalization block is limited to 1000 personalizations per API request."
            f" You have provided {len(blocks)} personalizations.",
            "personalizations",
        )
    elif len(recipients(document)) > MAX_RECIPIENTS:
        yield _fault("There is a limit of 1000 total recipients (to + cc + bcc) per request.", "personalizations")
    for index, block in enumerate(blocks):
        yield from _personalization(block, f"personalizations.{index}")


def _personalization(block: Any, field: str) -> Iterator[Fault]:
    if not isinstance(block, dict) or not isinstance(block.get("to"), list) or not block["to"]:
        yield _fault(
            "The to array is required for all personalization objects, with at least one email object.",
            f"{field}.to",
        )
        return
    for kind in ("to", "cc", "bcc"):
        for index, entry in enumerate(block.get(kind) or []):
            yield from _address(entry, f"{field}.{kind}.{index}")
    seen: set[str] = set()
    for entry in _entries(block):
        email = str(entry.get("email")).lower()
        if email in seen:
            yield _fault(
                "Each email address in the personalization block should be unique between to, cc, and bcc."
                f" We found the first duplicate instance of [{email}] in the {field}.to field.",
                field,
            )
        seen.add(email)
    if _LINE_BREAK.search(str(block.get("subject", ""))):
        yield _fault("The subject line must not contain line breaks.", f"{field}.subject")


def _address(entry: Any, field: str) -> Iterator[Fault]:
    if not isinstance(entry, dict) or not _ADDRESS.fullmatch(str(entry.get("email", ""))):
        yield _fault("Does not contain a valid address.", f"{field}.email")
        return
    name = entry.get("name", "")
    if not isinstance(name, str) or _LINE_BREAK.search(name):
        yield _fault("The name must be a string without line breaks.", f"{field}.name")


def _sender(document: dict[str, Any]) -> Iterator[Fault]:
    if "from" not in document:
        yield _fault(
            "The from object must be provided for every email send.",
            "from",
        )
    else:
        yield from _address(document["from"], "from")
    if "reply_to" in document:
        yield from _address(document["reply_to"], "reply_to")


def _subject(document: dict[str, Any]) -> Iterator[Fault]:
    subject = document.get("subject")
    blocks = document.get("personalizations") or [{}]
    if isinstance(subject, str) and subject.strip():
        if _LINE_BREAK.search(subject):
            yield _fault("The subject line must not contain line breaks.", "subject")
    elif not all(isinstance(block, dict) and block.get("subject") for block in blocks):
        yield _fault(
            "The subject is required, unless every personalization has a subject defined.",
            "subject",
        )


def _content(document: dict[str, Any]) -> Iterator[Fault]:
    parts = document.get("content")
    if not isinstance(parts, list) or not parts:
        yield _fault(
            "Unless a valid template_id is provided, the content parameter is required.",
            "content",
        )
        return
    for index, part in enumerate(parts):
        value = part.get("value") if isinstance(part, dict) else None
        if not isinstance(value, str) or not value:
            yield _fault(
                "The content value must be a string at least one character in length.", f"content.{index}.value"
            )
    types = [str(part.get("type")) if isinstance(part, dict) else "" for part in parts]
    for index, type_ in enumerate(types):
        if not type_ or re.search(r"[;,\r\n]", type_):
            yield _fault("The content type cannot contain ';', or CRLF characters.", f"content.{index}.type")
    known = [_CONTENT_ORDER.index(type_) for type_ in types if type_ in _CONTENT_ORDER]
    if any(first >= second for first, second in pairwise(known)):
        yield _fault(
            "If present, text/plain must be first, followed by text/html, each provided once.",
            "content",
        )


def _custom_args(document: dict[str, Any]) -> Iterator[Fault]:
    args = document.get("custom_args", {})
    if not isinstance(args, dict) or not all(isinstance(value, str) for value in args.values()):
        yield _fault("The custom_args must be an object of strings.", "custom_args")
    elif len(json.dumps(args, ensure_ascii=False).encode()) > MAX_CUSTOM_ARGS_BYTES:
        yield _fault("The total size of custom arguments is limited to 10000 bytes.", "custom_args")


def _categories(document: dict[str, Any]) -> Iterator[Fault]:
    categories = document.get("categories", [])
    if not isinstance(categories, list) or not all(isinstance(name, str) and name for name in categories):
        yield _fault("The categories must be an array of strings.", "categories")
        return
    if len(categories) > MAX_CATEGORIES:
        yield _fault("You cannot have more than 10 categories per request.", "categories")
    if len(set(categories)) < len(categories):
        yield _fault("You cannot have any duplicate categories.", "categories")
    if any(len(name) > MAX_CATEGORY_CHARACTERS for name in categories):
        yield _fault("Each category cannot be longer than 255 characters.", "categories")


def _headers(document: dict[str, Any]) -> Iterator[Fault]:
    headers = document.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        yield _fault("The headers must be an object of strings.", "headers")
        return
    for name, value in headers.items():
        if name.lower() in _RESERVED_HEADERS:
            yield _fault(f"You cannot use the reserved header {name}.", "headers")
        if _LINE_BREAK.search(name + value):
            yield _fault("Headers cannot contain line breaks.", "headers")


def _sandbox(document: dict[str, Any]) -> Iterator[Fault]:
    """Sandbox mode's own page: a Boolean, and neither missing nor in quotes."""
    settings = document.get("mail_settings", {})
    mode = settings.get("sandbox_mode", {"enable": False}) if isinstance(settings, dict) else None
    if not isinstance(mode, dict) or not isinstance(mode.get("enable"), bool):
        yield _fault("The sandbox mode enable param should be a boolean value.", "mail_settings.sandbox_mode.enable")
