"""A wall clock for a room that a test can make jump: libfaketime, where it is installed. Monotonic clocks run on."""

from pathlib import Path

MISSING = "libfaketime is not installed here: install the package faketime (`apt-get install faketime`)."
_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def find_faketime() -> Path | None:
    """The library, or None when it is not installed."""
    found = (Path(folder, "faketime", "libfaketimeMT.so.1") for folder in _FOLDERS)
    return next((path for path in found if path.exists()), None)


class FakeClock:
    """The time of one process, or of several, which read its file each time they ask for the time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on the clock is so far from the true one. Replaced as a whole: half a file is another time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)

    def environment(self, library: Path) -> dict[str, str]:
        """What a process must be started with. Times of files stay those that the kernel gives them."""
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else waits with a timeout, as of threads for their work, hang
            "NO_FAKE_STAT": "1",
        }
