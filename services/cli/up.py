"""`leads up`: the first start if it is one, then api, storage and notifier as three processes, and the banner."""

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from services.cli.banner import print_banner
from services.cli.init import EXIT_FAILED, NotPrepared, StaffLogin, first_start, login_line
from services.cli.pinning import processors
from services.cli.room import PortTaken, Room, check_port
from services.cli.settings import CliSettings
from services.cli.signals import Stopped, StopSignals
from services.cli.supervisor import Supervisor
from shared.observe import configure_logs
from shared.processors import REST
from shared.settings import SettingsError, authority, exit_with


def rooms(settings: CliSettings) -> tuple[Room, ...]:
    """The three, in the order in which they become ready."""
    shares = processors(settings.cpu_pinning)
    if shares:
        os.environ[REST] = ",".join(map(str, sorted(shares["storage"])))  # the rooms are told
    return tuple(replace(room, processors=tuple(sorted(shares.get(room.name, ())))) for room in _rooms(settings))


def _rooms(settings: CliSettings) -> tuple[Room, ...]:
    return (
        _room(settings, "storage", settings.storage_port, needed_by=("api",)),
        _room(settings, "notifier", settings.notifier_port),
        _room(settings, "api", settings.api_port),
    )


async def run(settings: CliSettings) -> int:
    """Runs until a stop is asked for; the exit status (69: a port is taken; 78: a setting is wrong; sysexits.h)."""
    began_at = time.monotonic()
    signals = StopSignals()
    configure_logs("leads", settings.log_level, settings.log_format)
    ours = rooms(settings)
    try:
        _check_ports(ours, settings.host)
        login = await signals.unless_asked(first_start(settings))
    except Stopped:
        return 0
    except SettingsError as error:
        exit_with(error)
    except PortTaken as error:
        return _refuse(error, os.EX_UNAVAILABLE)
    except NotPrepared as error:
        return _refuse(error, EXIT_FAILED)
    greeting = _Greeting(settings, login, began_at)
    try:
        return await Supervisor(ours, signals, greeting.say).run()
    finally:
        greeting.rescue_login()


@dataclass
class _Greeting:
    settings: CliSettings
    login: StaffLogin | None
    began_at: float
    said: bool = False

    def say(self) -> None:
        with suppress(OSError):  # nobody reads: the rooms run all the same
            print_banner(self.settings, self.login, seconds=time.monotonic() - self.began_at)
            self.said = True

    def rescue_login(self) -> None:
        """A password that was made and never shown would be lost: it is said even when the start failed."""
        if self.login is not None and not self.said:
            print(login_line(self.settings, self.login))


def _room(settings: CliSettings, name: str, port: int, *, needed_by: tuple[str, ...] = ()) -> Room:
    return Room(
        name=name,
        command=(sys.executable, "-m", f"services.{name}"),
        port=port,
        ready_url=f"http://{authority(settings.host, port)}/readyz",
        port_setting=f"LEADS_{name.upper()}_PORT",
        needed_by=needed_by,
    )


def _check_ports(ours: tuple[Room, ...], host: str) -> None:
    taken_by: dict[int, Room] = {}
    for room in ours:
        other = taken_by.setdefault(room.port, room)
        if other is not room:
            raise SettingsError(f"{other.port_setting} and {room.port_setting} are both {room.port}: they must differ.")
        check_port(room, host)


def _refuse(error: Exception, status: int) -> int:
    sys.stderr.write(f"leads: {error}\n")
    return status
