"""PostgreSQL as the database of a room, by asyncpg: a schema of the room's own. How it is worked on: `pool.py`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.engines import turns
from shared.engines.pool import (
    CONNECT_SECONDS,
    IDLE_SECONDS,
    READERS,
    STATEMENT_SECONDS,
    WRITERS,
    Driver,
    Pool,
    check_options,
    check_port,
)
from shared.engines.turns import Engines, not_offered
from shared.postgresql import is_collision, is_passing_absence
from shared.settings import SettingsError

OPTIONS = frozenset({"host", "passfile", "ssl"})
"""What may follow the `?` of a URL; `sslmode` is `ssl`. How long to wait, and for what, is Leads' own affair."""

TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_DRIVER = Driver(asyncpg.Connection.terminate, is_collision, is_passing_absence)


def open_postgresql(url: URL, setting: str, schema: str) -> Engines:
    """Connects to nothing yet. Raises `SettingsError` for a URL that cannot work."""
    if not url.database:
        raise not_offered(setting)
    check_port(url, setting)
    ours = _understood(url.set(drivername="postgresql+asyncpg"), setting)
    return Engines(
        where=f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}",
        writers=_pool(ours, WRITERS, schema, {"default_transaction_isolation": "read committed"}),
        readers=_pool(
            ours,
            READERS,
            schema,
            {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"},
        ),
    )


def _pool(url: URL, count: int, schema: str, settings: Mapping[str, str]) -> Pool:
    return Pool(_engine(url, count, schema, settings), count, _DRIVER)


def _engine(url: URL, count: int, schema: str, settings: Mapping[str, str]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=count,
        max_overflow=0,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "server_settings": {
                "application_name": f"leads {schema}",
                "search_path": schema,
                "synchronous_commit": "on",  # whatever the database's default is: what returned is on the disk
                "lock_timeout": f"{turns.BUSY_TIMEOUT_SECONDS:.2f}s",
                "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
                "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
                "timezone": "UTC",
                **settings,
            },
        },
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def checked_out(connection: Any, _record: Any, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():  # the server went meanwhile; the pool connects anew
            raise DisconnectionError

    return engine


def _understood(url: URL, setting: str) -> URL:
    """The URL with options as asyncpg names them. Raises `SettingsError` for one that it could not connect with."""
    options = dict(url.query)
    if "sslmode" in options:  # as libpq and the providers of databases write it
        options["ssl"] = options.pop("sslmode")
    understood = url.set(query=options)
    check_options(understood, setting, OPTIONS)
    if "ssl" in options:
        _check_tls(str(options["ssl"]), setting)
    return understood


def _check_tls(mode: str, setting: str) -> None:
    """Where the authority's certificate is looked for: https://www.postgresql.org/docs/current/libpq-ssl.html."""
    if mode not in TLS_MODES:
        raise SettingsError(f"{setting}: ssl must be one of {', '.join(TLS_MODES)}, not {mode}.")
    authority = Path(os.environ.get("PGSSLROOTCERT") or Path.home() / ".postgresql" / "root.crt")
    if mode.startswith("verify-") and not authority.is_file():
        raise SettingsError(
            f"{setting}: ssl={mode} needs the certificate of the authority, and {authority} is not there: "
            "PGSSLROOTCERT names its file."
        )
