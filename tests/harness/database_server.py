"""A private database server for tests: own port and folder, as another user where we are root, torn down by pid.

Knows how to start, crash, pause and end one server. What it keeps, and how it is asked, is its kind's affair.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.harness.deployment import free_ports

_START_SECONDS = 60.0
_END_SECONDS = 15.0


class DatabaseServer(ABC):
    """One server of our own on 127.0.0.1. As root it runs as `account`: it refuses to be root."""

    def __init__(self, name: str, account: str) -> None:
        self.name = name
        self._account = pwd.getpwnam(account) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._folder = Path(tempfile.mkdtemp(prefix=f"leads-{name.lower()}-"))  # pytest's folders are closed to others
        shutil.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        (self.port,) = free_ports(1)
        self._first: subprocess.Popen[bytes] | None = None
        self._output.touch()

    @property
    def running(self) -> bool:
        """Whether the server's first process is there."""
        return self._first is not None and self._first.poll() is None

    @property
    def pid(self) -> int:
        """Of its first process. Raises `RuntimeError` when it was not started."""
        if self._first is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._first.pid

    def start(self) -> None:
        """Returns when the server takes connections, at once if it does. Raises `RuntimeError` with its output."""
        deadline = time.monotonic() + _START_SECONDS
        while not (self.running and self._answers()):
            if not self.running:  # after a crash its memory is still in use for a moment, and it refuses to start
                self._first = self._spawn(*self._command())
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self.output()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to all of its processes: it stops between two instructions, as when the power fails."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self._first is not None:
            self._first.wait(_END_SECONDS)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers, as when a machine hangs. `resume` must follow."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Up again with the same port and data, after `kill`, or after a shutdown that ends all sessions."""
        if self._first is not None and self.running:
            self._first.send_signal(self._shutdown)
            self._first.wait(_END_SECONDS)
        self.start()

    def stop(self) -> None:
        """Ends the server."""
        self.kill()

    def remove(self) -> None:
        """Ends the server and removes its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def output(self) -> str:
        """What the server wrote."""
        return self._output.read_text(errors="replace")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _output(self) -> Path:
        return self._folder / "output.log"

    _shutdown = signal.SIGTERM

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What starts it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it takes connections."""

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Nothing of ours is inherited but the search path."""
        is_root = os.geteuid() == 0
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [program, *arguments],
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": str(self._folder)},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._account.pw_uid if is_root else None,
                group=self._account.pw_gid if is_root else None,
                extra_groups=[] if is_root else None,
            )

    def _processes(self) -> list[psutil.Process]:
        """The first one and its children: each may be a session of its own, so that no group holds them all."""
        if self._first is None or not self.running:
            return []
        first = psutil.Process(self._first.pid)
        return [first, *first.children(recursive=True)]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
