"""`leads migrate`, wired: places by the settings, what is printed, the exit status."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from services.api.settings import ApiSettings
from services.cli.migrate.move import Compared, Copied, Finished, Place, copy, finish, left
from services.cli.migrate.rooms import CannotMigrate, Room, rooms_on_sqlite
from services.cli.migrate.settings import MigrateSettings
from services.notifier.settings import NotifierSettings
from shared.observe import configure_logs
from shared.settings import CannotStart, SettingsError, load

SOURCE = "sqlite"
EXIT_NOT_EQUAL = 1
EXIT_FAILED = 2
DIGITS = 16
"""Of a SHA-256, as it is shown."""


def run(*, source: str, target: str, is_last: bool) -> int:
    """The exit status: 0 done, 1 rows differ and nothing was changed over, 2 it could not be done, or not be said."""
    configure_logs("leads", "CRITICAL", "auto")  # what goes wrong is one line on stderr
    try:
        status = _run(source=source, target=target, is_last=is_last)
        sys.stdout.flush()
    except (CannotMigrate, CannotStart) as error:
        sys.stderr.write(f"leads: {error}\n")
        return EXIT_FAILED
    except OSError as error:  # stdout's, as those of the databases come as the above: nobody reads, or a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it would fail again at the end
        sys.stderr.write(f"leads: the answer could not be written ({error}): run it again, which says how it stands\n")
        return EXIT_FAILED
    return status


def _run(*, source: str, target: str, is_last: bool) -> int:
    if source != SOURCE:
        raise SettingsError(f"--from must be {SOURCE}: there is no way from another.")
    place = load(MigrateSettings).target(target)
    rooms = rooms_on_sqlite(load(ApiSettings), load(NotifierSettings))
    staying = asyncio.run(left(rooms, place))
    if not staying:
        print("Moved already.")
        _say_settings(rooms, "the database it was moved to")
        return 0
    if is_last:
        return _finish(staying, place, rooms)
    _copy(staying, place)
    return 0


def _copy(rooms: Sequence[Room], place: Place) -> None:
    began_at = time.monotonic()
    copied = asyncio.run(copy(rooms, place))
    _show_copied(copied)
    rows = sum(one.new + one.changed for one in copied)
    print(f"{rows:,} rows brought over in {time.monotonic() - began_at:.1f} s. Nothing has changed for Leads.")
    print("Run it again as often as you like. Then stop Leads, and run it with --finish.")


def _finish(staying: Sequence[Room], place: Place, rooms: Sequence[Room]) -> int:
    began_at = time.monotonic()
    finished = asyncio.run(finish(staying, place))
    _show_copied(finished.copied)
    _show_compared(finished.compared)
    if not finished.is_done:
        return _say_not_equal(finished)
    rows = sum(one.rows for one in finished.compared)
    print(f"{rows:,} rows are in PostgreSQL, each compared, in {time.monotonic() - began_at:.1f} s.")
    _say_settings(rooms, f"the URL of {place[1]}")
    return 0


def _say_not_equal(finished: Finished) -> int:
    for table in finished.compared:
        for line in table.differences:
            print(line)
    rows = sum(one.differing for one in finished.compared)
    sys.stderr.write(
        f"leads: {rows:,} rows are not the same in PostgreSQL, and nothing was changed over: see what changes them "
        "there (a trigger, a rule, a program), then finish again\n"
    )
    return EXIT_NOT_EQUAL


def _show_copied(copied: Sequence[Copied]) -> None:
    table = Table("table", *(Column(name, justify="right") for name in ("rows", "new", "changed", "gone")), box=None)
    for one in copied:
        table.add_row(one.table, *(f"{count:,}" for count in (one.rows, one.new, one.changed, one.gone)))
    if copied:
        _print(table)


def _show_compared(compared: Sequence[Compared]) -> None:
    table = Table("table", Column("SQLite", justify="right"), Column("PostgreSQL", justify="right"), box=None)
    for name in ("SHA-256", ""):
        table.add_column(name, overflow="fold")  # in a file there are 80 columns: a digest that is cut says nothing
    for one in compared:
        sides = [one.sha256[:DIGITS], "equal" if one.is_equal else f"NOT EQUAL: {one.target_sha256[:DIGITS]}"]
        table.add_row(one.table, f"{one.rows:,}", f"{one.target_rows:,}", *sides)
    _print(table)


def _print(table: Table) -> None:
    """Rich itself would end the process, with status 1, when nobody reads."""
    console = Console()
    with console.capture() as shown:
        console.print(table)
    print(shown.get(), end="")


def _say_settings(rooms: Sequence[Room], where: str) -> None:
    settings = " and ".join(room.setting for room in rooms)
    print(f"Set {settings} to {where}, start Leads, then see that all adds up: leads audit --deep")
