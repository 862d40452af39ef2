"""The `Content-Disposition` of a stranger's file: saved, never shown (RFC 6266, section 4.2)."""

from urllib.parse import quote

ATTACHMENT = "attachment"
"""Where no name for it is known."""


def attachment(filename: str) -> str:
    """Of a file that is saved by this name (RFC 6266, with the encoding of RFC 8187)."""
    return f"{ATTACHMENT}; filename*=UTF-8''{quote(filename, safe='')}"
