"""`leads users`: who may sign in. Works on the api's database, whether or not the api is running."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.api import staff
from services.api.settings import MIGRATIONS, ApiSettings
from services.api.staff import UserError
from services.api.tables import Role
from shared.database import Database, unavailable_when_broken
from shared.problems import Problem
from shared.settings import CannotStart, load_or_exit

app = typer.Typer(no_args_is_help=True)

Email = Annotated[str, typer.Argument(help="The e-mail address one signs in with.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(
    email: Email,
    *,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.STAFF,
    password_stdin: FromStdin = False,
) -> None:
    """Add a user. Without --password-stdin a password is made and shown once."""
    password = _password(from_stdin=password_stdin)
    _run(_add(email, password, role))
    _say_done(f"{email} may sign in.", None if password_stdin else password)


@app.command("list")
def list_() -> None:
    """List all users."""
    _run(_list())


@app.command()
def disable(email: Email) -> None:
    """Lock a user out at once, whatever tokens they hold. `passwd` lets them in again."""
    _run(_disable(email))
    _say_done(f"{email} is locked out.", None)


@app.command()
def passwd(email: Email, *, password_stdin: FromStdin = False) -> None:
    """Set a new password; tokens made with the old one are refused."""
    password = _password(from_stdin=password_stdin)
    _run(_passwd(email, password))
    _say_done(f"{email} has a new password.", None if password_stdin else password)


async def _add(email: str, password: str, role: Role) -> None:
    async with _database() as database:
        await staff.add_user(database, email, password, role)


async def _list() -> None:
    async with _database() as database:
        users = await database.read(staff.list_users)
    table = Table("e-mail", "role", "since", "state", box=None)
    for user in users:
        state = f"disabled {user.disabled_at:%Y-%m-%d %H:%M}" if user.disabled_at else "active"
        table.add_row(user.email, user.role, f"{user.created_at:%Y-%m-%d}", state)
    Console().print(table)


async def _disable(email: str) -> None:
    async with _database() as database:
        await staff.disable_user(database, email)


async def _passwd(email: str, password: str) -> None:
    async with _database() as database:
        await staff.set_password(database, email, password)


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    database = Database(load_or_exit(ApiSettings).resolved_database_url)
    try:
        with unavailable_when_broken():
            await database.migrate(MIGRATIONS)
        yield database
    finally:
        await database.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except (UserError, Problem, CannotStart, ValueError) as error:
        sys.stderr.write(f"leads: {error}\n")
        raise typer.Exit(1) from None


def _password(*, from_stdin: bool) -> str:
    return sys.stdin.readline().rstrip("\n") if from_stdin else secrets.token_urlsafe(12)


def _say_done(what: str, password: str | None) -> None:
    print(what)
    if password:
        print(f"Password: {password}  (shown this once)")
