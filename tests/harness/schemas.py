"""How the schema that migrations make is compared with what the classes describe."""

from typing import Any

import pytest

from services.api import tables as api
from services.api.resume_search.index import TABLES
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.notifier import tables as notifier
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.outbox import OutboxEvent

ROOMS = pytest.mark.parametrize(
    ("setting", "migrations", "classes"),
    [
        pytest.param(
            "LEADS_DATABASE_URL",
            API_MIGRATIONS,
            (api.Lead, api.IdempotencyKey, api.User, api.AuditRun, api.RateCount, OutboxEvent),
            id="api",
        ),
        pytest.param("LEADS_NOTIFIER_DATABASE_URL", NOTIFIER_MIGRATIONS, (notifier.Email,), id="notifier"),
    ],
)
"""Each room that has a database: the setting that names it, its migrations, and the classes that describe it."""


def _is_described(name: str | None, kind: str, _parents: Any) -> bool:
    """The index of the resumes' words is no class: each kind of database has another."""
    return kind != "table" or name not in TABLES


COMPARED = {"compare_type": True, "compare_server_default": True, "include_name": _is_described}
