"""Looks at a deployment as `leads doctor` does, inside the test's own process and with the test's own settings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from pydantic import SecretStr

from services.api import setup as api
from services.api.settings import ApiSettings
from services.cli.doctor.patient import RoomName, meet
from services.cli.doctor.report import Finding, State
from services.cli.doctor.run import Check
from services.notifier import setup as notifier
from services.notifier.settings import NotifierSettings

PASSWORD = "correct-horse-battery-staple"


async def prepared(folder: Path) -> Path:
    """A data folder with both databases and a user."""
    folder.mkdir(parents=True, exist_ok=True)
    await api.prepare(ApiSettings(data_dir=folder, admin_password=SecretStr(PASSWORD)))
    await notifier.prepare(NotifierSettings(data_dir=folder))
    return folder


async def findings_of(
    check: Check, settings: Mapping[str, str], *, rooms: Sequence[RoomName] = tuple(RoomName)
) -> list[Finding]:
    """What one check finds, with nothing but `settings` in the environment."""
    with mock.patch.dict(os.environ, settings, clear=True):
        patient = meet(rooms)
        found = check(patient)
        return found if isinstance(found, list) else await found


async def the_one(check: Check, settings: Mapping[str, str], state: State) -> Finding:
    """The only finding in this state. Fails when there is none or there are several."""
    found = [finding for finding in await findings_of(check, settings) if finding.state is state]
    assert len(found) == 1, found
    assert "\n" not in found[0].found + found[0].mend
    return found[0]
