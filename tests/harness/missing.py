"""What it means that a machine lacks what a test needs."""

import os
from typing import NoReturn

import pytest


def cannot_run(reason: str) -> NoReturn:
    """A skip that says why and what to install; with `CI=true` a failure, since there everything is to be proven."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
