"""A private nginx that runs the configuration of deploy/nginx: own port and folder, ended by its pid."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.harness.deployment import ROOT, free_ports

MISSING = "nginx is not installed here: install the package nginx (`apt-get install nginx`)."
_READY_SECONDS = 10.0
_SHIPPED = ROOT / "deploy" / "nginx"


def find_nginx() -> str | None:
    """The installed program, or None."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


class Nginx:
    """Before apis at these ports of 127.0.0.1, taken in turn. Raises `RuntimeError` with `MISSING` without nginx."""

    def __init__(self, folder: Path, api_ports: Sequence[int]) -> None:
        program = find_nginx()
        if program is None:
            raise RuntimeError(MISSING)
        (self.port,) = free_ports(1)
        self._folder = folder
        user = "user root; " if os.geteuid() == 0 else ""  # as whoever runs the tests: their folders are for them alone
        self._command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", f"{user}daemon off;"]
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "nginx.conf").write_text(self._configuration(api_ports))

    @property
    def url(self) -> str:
        """Where leads are sent."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its first process. Raises `RuntimeError` when it was not started."""
        if self._process is None:
            raise RuntimeError("nginx was not started")
        return self._process.pid

    async def start(self) -> None:
        """Returns when it listens. Raises `RuntimeError` with its output."""
        with (self._folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
        self.stop()
        raise RuntimeError(f"nginx did not start:\n{self.output()}")

    def stop(self) -> None:
        """Its workers go with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)

    def output(self) -> str:
        """What it wrote: its log of requests, and its complaints."""
        return (self._folder / "output.log").read_text()

    def _configuration(self, api_ports: Sequence[int]) -> str:
        """The shipped one, with our port and folder, and with the apis by their ports."""
        servers = " ".join(f"server 127.0.0.1:{port};" for port in api_ports)
        upstream = f"upstream leads_api {{ {servers} keepalive 16; keepalive_timeout 20s; }}\n    map $host $leads_api"
        text = (_SHIPPED / "nginx.conf").read_text()
        for shipped, ours in (
            ("listen 8080;", f"listen 127.0.0.1:{self.port};"),
            ("include /etc/nginx/leads.conf;", f"include {_SHIPPED / 'leads.conf'};"),
            ("default apis:8000;", "default leads_api;"),
            ("map $host $leads_api", upstream),
            ("worker_processes auto;", "worker_processes 1;"),
            (" /tmp/", f" {self._folder}/"),
            ("/dev/stdout", str(self._folder / "output.log")),
            ("/dev/stderr", str(self._folder / "output.log")),
        ):
            assert shipped in text, f"deploy/nginx/nginx.conf has no {shipped!r}"
            text = text.replace(shipped, ours)
        return text
