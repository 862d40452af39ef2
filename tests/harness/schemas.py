"""How the schema that migrations make is compared with what the classes describe."""

from typing import Any

from services.api.resume_search.index import TABLES


def _is_described(name: str | None, kind: str, _parents: Any) -> bool:
    """The index of the resumes' words is no class: each kind of database has another."""
    return kind != "table" or name not in TABLES


COMPARED = {"compare_type": True, "compare_server_default": True, "include_name": _is_described}
