"""A private RabbitMQ node for tests: own name, ports, cookie and folder, from Debian's package, torn down by pid.

Knows how to start, crash, restart and end one node, and how to make virtual hosts in it within milliseconds. Knows
nothing of buses or topologies. The node's rules are at https://www.rabbitmq.com/docs/relocate and /docs/configure.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.rabbitmq_admin import FREE_BYTES, USER, Administration, text_of

MISSING = "RabbitMQ is not installed here: install the package rabbitmq-server (`apt-get install rabbitmq-server`)."

_PACKAGE = Path("/usr/lib/rabbitmq/lib")
_PROGRAMS = ("erl", "epmd", "erl_call")
_METRICS_PLUGIN = "rabbitmq_prometheus"
_START_SECONDS = 60.0
_END_SECONDS = 15.0


def find_rabbitmq() -> Path | None:
    """The folder of the installed broker (it holds `sbin/` and `plugins/`), or None when something of it is missing."""
    homes = sorted(_PACKAGE.glob("rabbitmq_server-*"))
    if not homes or not all(shutil.which(program) for program in _PROGRAMS):
        return None
    return homes[-1]


@dataclass(frozen=True)
class Family:
    """What nodes need in common to become a cluster. Who makes it runs the port mapper of Erlang (epmd)."""

    cookie: str
    epmd_port: int
    partition_handling: str = "pause_minority"
    net_tick_seconds: int = 15
    """A node that is silent for about so long is given up by the others (net_ticktime)."""


class RabbitNode(Administration):
    """One broker of our own on 127.0.0.1, with all its files in `folder`. Works as root and as a plain user.

    Raises `RuntimeError` with `MISSING` when the package is not installed.
    """

    def __init__(self, folder: Path, *, metrics: bool = False, family: Family | None = None) -> None:
        """With `metrics`, it tells Prometheus of itself at `metrics_port`; that costs the start a second."""
        home = find_rabbitmq()
        if home is None:
            raise RuntimeError(MISSING)
        self._home = home
        self._folder = folder
        self.port, self._distribution_port, self._epmd_port, self.metrics_port = free_ports(4)
        self._family = family
        if family is not None:
            self._epmd_port = family.epmd_port
        self._plugin = _METRICS_PLUGIN if metrics else ""
        self.password = secrets.token_hex(8)
        self._broker: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._write_files()

    @staticmethod
    def data_of(folder: Path) -> Path:
        """Where a node in `folder` keeps its messages: a disk of its own may be mounted there before it is made."""
        return folder / "data"

    @property
    def data(self) -> Path:
        """Where it keeps its messages."""
        return self.data_of(self._folder)

    @property
    def name(self) -> str:
        """As Erlang's nodes call each other."""
        return f"leads-test-{self.port}@localhost"

    @property
    def running(self) -> bool:
        """Whether the broker's process is there."""
        return self._broker is not None and self._broker.poll() is None

    @property
    def pid(self) -> int:
        """Of the broker's process. Raises `RuntimeError` when it was not started."""
        if self._broker is None:
            raise RuntimeError("RabbitMQ was not started")
        return self._broker.pid

    def url(self, vhost: str = "/", *, password: str | None = None, port: int | None = None) -> str:
        """`amqp://` with the node's first user; another `password` makes a wrong login, `port` leads to a proxy."""
        path = "%2F" if vhost == "/" else vhost
        return f"amqp://{USER}:{password or self.password}@127.0.0.1:{port or self.port}/{path}"

    def start(self) -> None:
        """Returns when the node takes connections, at once if it does. Raises `RuntimeError` with its output."""
        if self.running:
            return
        if self._epmd is None and self._family is None:
            # Without one of our own, the node would start a daemon that outlives it.
            self._epmd = self._spawn(["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)])
        self._broker = self._spawn([str(self._folder / "server" / "sbin" / "rabbitmq-server")])
        self._wait_until_ready(self._broker)

    def kill(self) -> None:
        """SIGKILL: the broker stops between two instructions, as when the power fails."""
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait(_END_SECONDS)

    def crash(self) -> None:
        """`kill`, but not before it has the names of its queues on disk.

        RabbitMQ keeps them with a delay, in its first seconds under load of several: a queue whose name was lost comes
        up empty and without a leader (https://github.com/rabbitmq/rabbitmq-server/issues/10070), for as long as nobody
        calls an election. docs/reliability.md says so; what is tested here are queues that are there.
        """
        self.evaluate("ok = dets:sync(ra_directory_reverse).")
        self.kill()

    def crash_without_name(self, vhost: str, queue: str) -> None:
        """What `crash` spares it: it dies before it has kept the name of that queue."""
        self.evaluate(f"ok = dets:delete(ra_directory_reverse, list_to_atom({text_of(f'{vhost}_{queue}')})).")
        self.crash()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers, as when a machine hangs. `resume` must follow."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Up again with the same ports and data, after `kill`, or after an orderly shutdown if it still runs."""
        if self._broker is not None and self.running:
            self._broker.terminate()
            self._broker.wait(_END_SECONDS)
        self.start()

    def stop(self) -> None:
        """Ends the node and its port mapper, those two only. Its folder is left to whoever made it."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(_END_SECONDS)
            self._epmd = None

    def log(self) -> str:
        """All that it has logged."""
        return "".join(file.read_text(errors="replace") for file in sorted((self._folder / "log").glob("*.log")))

    def evaluate(self, expressions: str) -> str:
        """Runs Erlang expressions inside the node and returns the last value. Raises `RuntimeError` if they fail.

        `erl_call` takes some 15 ms, where `rabbitmqctl eval` starts a whole Erlang machine.
        """
        command = ["erl_call", "-R", "-address", f"localhost:{self._distribution_port}", "-timeout", "30", "-e"]
        done = subprocess.run(
            command,
            input=f"{expressions}\n".encode(),
            env=self._environment(),
            capture_output=True,
            check=False,
            timeout=35,
        )
        answer = done.stdout.decode()
        if not answer.startswith("{ok,"):
            raise RuntimeError(f"the node did not run {expressions!r}: {answer} {done.stderr.decode()}")
        return answer.removeprefix("{ok,").removesuffix("}").strip()

    def _signal(self, number: signal.Signals) -> None:
        if self._broker is not None:
            self._broker.send_signal(number)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "output.log").open("ab") as output:
            return subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_ready(self, broker: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and broker.poll() is None:
            if _speaks_amqp(self.port):
                return
            time.sleep(0.05)
        self.stop()
        tail = (self._folder / "output.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"the RabbitMQ node did not start; the end of its output:\n{tail}")

    def _write_files(self) -> None:
        for name in ("home", "data", "log", "server/plugins"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        cookie = self._folder / "home" / ".erlang.cookie"
        cookie.write_text(self._family.cookie if self._family else secrets.token_hex(16))
        cookie.chmod(0o400)
        (self._folder / "environment.conf").write_text("")
        (self._folder / "enabled_plugins").write_text(f"[{self._plugin}].\n")
        (self._folder / "rabbitmq.config").write_text(
            _CONFIGURATION
            % (
                self.port,
                USER,
                self.password,
                FREE_BYTES,
                self._family.partition_handling if self._family else "ignore",
                self.metrics_port,
            )
        )
        self._link_server()

    def _link_server(self) -> None:
        """A server folder with only the applications that the broker needs.

        Erlang looks each module up in every folder of the package's eighty plugins: with twenty the node starts in
        two thirds of the time.
        """
        server = self._folder / "server"
        (server / "sbin").symlink_to(self._home / "sbin")
        for application in _needed_applications(self._home / "plugins", ["rabbit", self._plugin]):
            (server / "plugins" / application.name).symlink_to(application)

    def _environment(self) -> dict[str, str]:
        """Nothing of ours is inherited but the search path, and nothing of the machine's RabbitMQ is read."""
        folder = self._folder
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SCRIPTS_DIR": str(folder / "server" / "sbin"),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "environment.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # "Allow input" makes the start script become the Erlang machine instead of waiting beside it: our child is
            # the broker itself, and SIGKILL hits what it is meant for.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 -kernel {' '.join(self._kernel_settings())}",
        }

    def _kernel_settings(self) -> list[str]:
        ticks = [f"net_ticktime {self._family.net_tick_seconds}"] if self._family else []
        return ["inet_dist_use_interface {127,0,0,1}", *ticks]


_CONFIGURATION = """\
[{rabbit, [{tcp_listeners, [{"127.0.0.1", %d}]},
           {default_user, <<"%s">>},
           {default_pass, <<"%s">>},
           {disk_free_limit, %d},
           {cluster_partition_handling, %s}]},
 {rabbitmq_prometheus, [{tcp_config, [{ip, "127.0.0.1"}, {port, %d}]}]},
 {ra, [{wal_max_size_bytes, 8388608},
       {segment_max_entries, 1024}]}].
"""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now. They are held together, so that they differ."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _speaks_amqp(port: int) -> bool:
    """Whether a broker answers the AMQP 0-9-1 greeting (section 4.2.2) with `connection.start`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


def _needed_applications(plugins: Path, roots: Sequence[str]) -> list[Path]:
    """The Erlang applications of `roots`, and those which they start, as folders in `plugins`."""
    found: dict[str, Path] = {}
    wanted = list(roots)
    while wanted:
        name = wanted.pop()
        folder = next(iter(plugins.glob(f"{name}-[0-9]*")), None)
        if folder is None or name in found:
            continue  # an application of Erlang itself, or one we have
        found[name] = folder
        description = (folder / "ebin" / f"{name}.app").read_text()
        listed = re.search(r"\{\s*applications\s*,\s*\[([^\]]*)\]", description)
        wanted += re.findall(r"\w+", listed.group(1)) if listed else []
    return list(found.values())
