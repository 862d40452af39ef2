"""Where `leads migrate` moves to."""

from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from shared.postgresql import SCHEMES
from shared.settings import Settings, SettingsError

SETTING = "LEADS_MIGRATE_TO_URL"
OPTION = "--to"


class MigrateSettings(Settings):
    """Read by `leads migrate` alone."""

    migrate_to_url: SecretStr = SecretStr("")

    def target(self, wanted: str) -> tuple[str, str]:
        """The URL to move to, and what to name as its place: `wanted` is `postgresql`, or the URL itself.

        Raises `SettingsError`.
        """
        if wanted in SCHEMES:
            url, place = self.migrate_to_url.get_secret_value(), SETTING
            if not url:
                raise SettingsError(
                    f"{SETTING} is not set: the database to move to, postgresql+asyncpg://user@host/database; "
                    f"{SETTING}_FILE names a file with it."
                )
        else:
            url, place = wanted, OPTION
        if not _names_a_database(url):
            raise SettingsError(f"{place} must be postgresql+asyncpg://user@host/database: there is no way to another.")
        return url, place


def _names_a_database(url: str) -> bool:
    """Of PostgreSQL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: what stands for a port is no number
        return False
    return parsed.drivername.partition("+")[0] in SCHEMES and bool(parsed.database)
