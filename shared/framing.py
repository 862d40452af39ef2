"""Whether a request leaves any doubt about where it ends or whom it is for: doubts are what smuggling is made of.

The parser refuses most of it (two lengths, a length and chunks, bare line feeds); here is what it lets pass.
"""

import re
from collections.abc import Sequence

_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


def framing_fault(method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Why two readers might disagree on this request (RFC 9112, sections 3.2 and 6); None when they cannot."""
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if version not in ("1.0", "1.1") or method == b"CONNECT":
        return "Only HTTP/1.1 and HTTP/1.0 are spoken here, and no tunnels are made."
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return "A body may be sent in chunks (HTTP/1.1), and in no other transfer encoding."
    if len(hosts) > 1 or (version == "1.1" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        return "The request must have one Host header that names one host."
    return None
