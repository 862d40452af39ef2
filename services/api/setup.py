"""First start of the api's part: the schema, and somebody who can sign in."""

import secrets
from dataclasses import dataclass

from services.api import staff
from services.api.settings import MIGRATIONS, ApiSettings
from services.api.tables import Role
from shared.database import Database


@dataclass(frozen=True)
class FirstLogin:
    """The login that was just made: to be shown once."""

    email: str
    password: str


async def prepare(settings: ApiSettings) -> FirstLogin | None:
    """Bring the database up to date; make the admin's login if there is no user yet, and only then return it."""
    database = Database(settings.resolved_database_url)
    try:
        await database.migrate(MIGRATIONS)
        if await database.read(staff.list_users):
            return None
        given = settings.admin_password
        password = given.get_secret_value() if given else secrets.token_urlsafe(12)
        made = await staff.add_first_user(database, settings.admin_email, password, Role.ADMIN)
        return FirstLogin(settings.admin_email, password) if made else None
    finally:
        await database.close()
