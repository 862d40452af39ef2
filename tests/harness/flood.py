"""Many uploads at once, sent by a process of its own.

`python -m tests.harness.flood PORT COUNT BYTES` prints the answers as JSON.
"""

import asyncio
import json
import sys

from tests.harness import files
from tests.harness.raw_http import BOUNDARY, Part, RawAnswer, exchange, form, head

PATIENCE_SECONDS = 60.0


async def flood(port: int, count: int, resume_bytes: int) -> list[RawAnswer]:
    """The answers to `count` leads sent at the same time, each with a resume of that size."""
    resume = files.pdf(resume_bytes)
    return await asyncio.gather(*(_send(port, f"flood{number}@people.test", resume) for number in range(count)))


async def _send(port: int, email: str, resume: bytes) -> RawAnswer:
    texts = [Part("first_name", b"Ann"), Part("last_name", b"Lee"), Part("email", email.encode())]
    before, after = form([*texts, Part("resume", b"RESUME", "cv.pdf")]).split(b"RESUME")
    length = len(before) + len(resume) + len(after)
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    start = head("POST", "/leads", {"Content-Type": kind, "Content-Length": str(length)})
    return await exchange(port, start + before, resume, after, seconds=PATIENCE_SECONDS)


if __name__ == "__main__":
    answers = asyncio.run(flood(*map(int, sys.argv[1:])))
    print(json.dumps([{"status": a.status, "headers": dict(a.headers), "body": a.body.decode()} for a in answers]))
