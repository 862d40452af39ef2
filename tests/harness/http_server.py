"""A server of somebody else's as a process of the tests': started, waited for, ended by its pid."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

START_SECONDS = 60.0


@contextmanager
def serving(command: Sequence[str], url: str, log: Path) -> Iterator[None]:
    """It answers at `url` meanwhile, be it with a refusal. Raises `RuntimeError` with what it wrote to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent)
    try:
        if not _answers(process, url):
            raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-4000:]}")
        yield
    finally:
        process.kill()
        process.wait()


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return True
        except HTTPError:
            return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False
