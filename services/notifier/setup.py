"""First start of the notifier's part: its schema."""

from services.notifier.settings import MIGRATIONS, NotifierSettings
from shared.database import Database


async def prepare(settings: NotifierSettings) -> None:
    """Bring the notifier's database up to date."""
    database = Database(settings.resolved_database_url, setting="LEADS_NOTIFIER_DATABASE_URL")
    try:
        await database.migrate(MIGRATIONS)
    finally:
        await database.close()
