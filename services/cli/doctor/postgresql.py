"""Whether a PostgreSQL keeps what it answers, lets Leads in, and has room for its connections."""

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.cli.doctor.kept import Kept, too_few_connections
from services.cli.doctor.report import Finding, failed
from shared.postgresql import SCHEMAS

_DURABLE = ("fsync", "full_page_writes")
"""Without these a crash loses what was answered."""

_MAY_CREATE = text(
    "SELECT coalesce((SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE nspname = :schema),"
    " has_database_privilege(current_database(), 'CREATE'))"
)


def server(session: Session) -> str:
    """The program and its version."""
    return f"PostgreSQL {_value(session, 'SHOW server_version').split()[0]}"


def faults(session: Session, one: Kept) -> Iterator[Finding]:
    """What is wrong with the server."""
    for name in _DURABLE:
        if _value(session, f"SHOW {name}") == "off":
            yield failed(
                "database",
                f"{one.setting}: {name} is off: when that server crashes, leads are lost that were answered with 201.",
                f"ALTER SYSTEM SET {name} = on, then SELECT pg_reload_conf().",
            )
    schema = SCHEMAS[one.setting]
    if session.execute(text("SELECT pg_is_in_recovery()")).scalar():
        yield failed("database", f"{one.setting} leads to a standby, which may only be read.", "Name the primary.")
    elif not session.execute(_MAY_CREATE, {"schema": schema}).scalar():
        mend = f"Make it the owner: CREATE SCHEMA IF NOT EXISTS {schema}; ALTER SCHEMA {schema} OWNER TO that_user"
        yield failed("database", f"{one.setting}: the user of the URL may not make tables in schema {schema}.", mend)
    yield from too_few_connections(one, int(_value(session, "SHOW max_connections")))


def _value(session: Session, query: str) -> str:
    return str(session.execute(text(query)).scalar())
