"""The engines that can keep a room's database, chosen by URL: SQLite's files, PostgreSQL, MySQL and MariaDB.

What they say differently inside of a transaction is in `shared/dialect.py`, what their errors ask of people in
`shared/troubles.py`. Nothing else knows which one it is.
"""

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from shared.engines.sqlite import open_sqlite
from shared.engines.turns import Engines, not_offered
from shared.postgresql import SCHEMAS


def open_engines(url: str, setting: str, schema: str = "") -> Engines:
    """The database that `setting` names, whichever driver its URL does: `not_offered` lists them.

    `schema` says whose tables are meant where the setting does not. Raises `SettingsError` for another.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: what stands for a port is no number; it may be half a password
        parsed = URL.create("unreadable")
    match parsed.drivername.partition("+")[0]:
        case "sqlite":
            return open_sqlite(parsed, setting)
        case "postgresql" | "postgres":
            # Loaded here: it brings megabytes that a room with a file has no use for.
            from shared.engines.postgresql import open_postgresql

            return open_postgresql(parsed, setting, schema or SCHEMAS[setting])
        case "mysql" | "mariadb":
            from shared.engines.mysql import open_mysql

            return open_mysql(parsed, setting)
    raise not_offered(setting)
