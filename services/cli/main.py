"""The commands of `leads`, and what each is called. What they do stands in the module of the same name.

Modules are imported when their command runs: `leads up` must be quick, and nobody waits for what it does not use.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

GROUPS = {
    "users": "Staff logins: who may sign in.",
    "queues": "The queues: what waits, what failed, and playing it again.",
}
"""Command groups, each the `app` of the module with its name."""


def build(arguments: list[str]) -> typer.Typer:
    """The command line. Groups are left out when the arguments name a command that is none of them."""
    app = typer.Typer(
        help="Lead intake that never loses a lead.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    commands: dict[str, Callable[..., None]] = {
        "up": up,
        "init": init,
        "provision": provision,
        "audit": audit,
        "doctor": doctor,
        "backup": backup,
        "restore": restore,
        "migrate": migrate,
    }
    for name, command in commands.items():
        app.command(name)(command)
    if not arguments or arguments[0] not in commands:
        for name, purpose in GROUPS.items():
            app.add_typer(import_module(f"services.cli.{name}").app, name=name, help=purpose)
    return app


def main() -> None:
    """Run the command that the arguments name."""
    os.umask(0o077)  # whatever a command writes holds people's data
    build(sys.argv[1:])(prog_name="leads")


def up() -> None:
    """Start api, storage and notifier in this terminal and keep them running until Ctrl-C."""
    from services.cli.settings import CliSettings
    from services.cli.up import run
    from shared.settings import load_or_exit

    raise typer.Exit(asyncio.run(run(load_or_exit(CliSettings))))


def init() -> None:
    """Make what a first start needs: the data folder, the secrets, the databases, a staff login."""
    from services.cli.init import run
    from services.cli.settings import CliSettings
    from shared.settings import load_or_exit

    raise typer.Exit(asyncio.run(run(load_or_exit(CliSettings))))


def provision(
    volumes: Annotated[Path, typer.Argument(help="The folder that has every room's volume in it.")] = Path("/volumes"),
) -> None:
    """As init, where each room has a data folder of its own and RabbitMQ gets its users (docker-compose.yml)."""
    from services.cli.provision import run
    from services.cli.settings import CliSettings
    from shared.settings import load_or_exit

    raise typer.Exit(asyncio.run(run(load_or_exit(CliSettings), volumes)))


def audit(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Read every resume and compare its hash.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Remove resumes without a lead that are past the grace.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines; the last one is the summary.")] = False,
    every_hours: Annotated[float | None, typer.Option(min=0.01, help="Do it again and again, until stopped.")] = None,
) -> None:
    """Check that every lead adds up: resume, event, e-mails. Exit 1 and a line for each that does not."""
    if every_hours is not None:
        from services.cli.audit.repeat import repeat

        chosen = {"--deep": deep, "--fix": fix, "--json": as_json}
        repeat(every_hours, [option for option, is_chosen in chosen.items() if is_chosen])
    from services.cli.audit.command import run

    raise typer.Exit(run(deep=deep, fix=fix, as_json=as_json))


def doctor(
    rooms: Annotated[
        list[str] | None, typer.Option("--room", envvar="LEADS_ROOM", help="Only this room; may be given again.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look the deployment over: say what is wrong and how to mend it. Changes nothing."""
    from services.cli.doctor.patient import RoomName
    from services.cli.doctor.run import run

    try:
        chosen = [RoomName(room) for room in rooms] if rooms else list(RoomName)
    except ValueError:
        words = f"it is one of {', '.join(RoomName)}; with Docker, run the doctor in their containers"
        raise typer.BadParameter(words, param_hint="--room") from None
    run(chosen, as_json=as_json)


def backup(
    folder: Annotated[Path, typer.Argument(help="Where backups are kept; this one gets a folder of its own there.")],
    *,
    keep: Annotated[int | None, typer.Option(min=1, help="Drop all but so many of the newest.")] = None,
) -> None:
    """Copy leads, e-mails and resumes while all of it is in use. Exit 1: a resume is missing; 2: no backup was made."""
    from services.cli.backup.command import run_backup

    raise typer.Exit(run_backup(folder, keep))


def restore(folder: Annotated[Path, typer.Argument(help="One backup: FOLDER/TIME.")]) -> None:
    """Put a backup back where there is no data yet. Exit 1: a resume is missing; 2: nothing was restored."""
    from services.cli.backup.command import run_restore

    raise typer.Exit(run_restore(folder))


def migrate(
    *,
    source: Annotated[str, typer.Option("--from", help="What Leads runs on now.")] = "sqlite",
    target: Annotated[
        str, typer.Option("--to", help="The URL to move to; `postgresql` takes it from LEADS_MIGRATE_TO_URL.")
    ] = "postgresql",
    finish: Annotated[
        bool, typer.Option("--finish", help="With Leads stopped: bring over the rest, compare all, change over.")
    ] = False,
) -> None:
    """Move from SQLite to PostgreSQL while leads come in. Exit 1: not all is equal; 2: it could not be done."""
    from services.cli.migrate.command import run

    raise typer.Exit(run(source=source, target=target, is_last=finish))
