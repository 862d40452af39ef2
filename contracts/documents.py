"""The two documents in which Leads says what it promises to programs: where they lie, and their text as of today."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from pydantic import SecretStr

from contracts.asyncapi import asyncapi
from services.api.main import create_app
from services.api.settings import ApiSettings
from shared.settings import SECRET_MIN_BYTES

ROOT = Path(__file__).resolve().parents[1]
OPENAPI = ROOT / "docs" / "openapi.json"
ASYNCAPI = ROOT / "docs" / "asyncapi.yaml"


def openapi() -> dict[str, Any]:
    """What a running api serves at `/openapi.json`."""
    no_secret = SecretStr(SECRET_MIN_BYTES * "-")
    with TemporaryDirectory() as folder:
        app = create_app(ApiSettings(data_dir=Path(folder), jwt_secret=no_secret, service_secret=no_secret))
        return app.openapi()


def _openapi_text() -> str:
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def _asyncapi_text() -> str:
    head = "# Made from the code by `make contracts`: change that, not this.\n"
    plain = json.loads(json.dumps(asyncapi()))  # nothing is shared in it any more, so YAML has no anchors
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


DOCUMENTS: Mapping[Path, Callable[[], str]] = {OPENAPI: _openapi_text, ASYNCAPI: _asyncapi_text}
