"""Remembers that a first start is done, so that a later one need not load what it took (about a second).

Kept as `prepared.json` in the data folder. It holds for one code and one set of database files; whatever else is found
means that the work is done once more, which harms nothing. (The rooms themselves bring their schema up to date.)
"""

import hashlib
import json
from pathlib import Path

from services.cli.settings import CliSettings

_ROOT = Path(__file__).parents[2]
_PREPARING_CODE = ("services/*/setup.py", "services/*/migrations/**/*.py")


def is_prepared(settings: CliSettings) -> bool:
    """Whether nothing that preparing depends on has changed since `remember`. Never true for databases elsewhere."""
    if not settings.is_embedded:
        return False
    try:
        kept = json.loads(_file(settings).read_text())
        databases = {name: (settings.data_dir / name).stat().st_ino for name in kept["databases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(databases) and kept == {"code": _code(), "databases": databases}


def remember(settings: CliSettings) -> None:
    """Note that preparing is done. Raises `OSError`."""
    databases = {file.name: file.stat().st_ino for file in settings.data_dir.glob("*.db")}
    temporary = _file(settings).with_suffix(".tmp")
    temporary.write_text(json.dumps({"code": _code(), "databases": databases}, indent=2) + "\n")
    temporary.replace(_file(settings))


def _file(settings: CliSettings) -> Path:
    return settings.data_dir / "prepared.json"


def _code() -> str:
    digest = hashlib.sha256()
    for pattern in _PREPARING_CODE:
        for file in sorted(_ROOT.glob(pattern)):
            digest.update(f"{file.relative_to(_ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
