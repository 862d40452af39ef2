"""The settings: that they load, that each name is read by somebody, that secrets are fit for what they are for."""

import difflib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from services.api.settings import ApiSettings
from services.cli.doctor.patient import Patient
from services.cli.doctor.report import Finding, failed, ok, skipped, warning
from services.cli.settings import CliSettings
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.settings import Settings, SettingsError, secret_file
from shared.tokens import STAFF, Tokens

ROOM = "LEADS_ROOM"
"""Which room the doctor looks at where nothing else is said: set in each container."""

_OURS = ("LEADS_", "SENDGRID_")
_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


def check_settings(patient: Patient) -> list[Finding]:
    """Every setting that is wrong, not only the first, and every name that is nearly one of ours."""
    found = [failed("settings", complaint, "Correct it where it is set.") for complaint in patient.complaints]
    found += [_unknown(name) for name in sorted(os.environ) if name.startswith(_OURS) and name not in known_names()]
    return found or [ok("settings", f"those of {', '.join(patient.rooms)} load")]


def known_names() -> frozenset[str]:
    """Every environment variable that some room or command reads, with and without `_FILE`."""
    names = {
        str(about.validation_alias or f"LEADS_{field}").upper()
        for cls in (ApiSettings, StorageSettings, NotifierSettings, CliSettings)
        for field, about in cls.model_fields.items()
    }
    return frozenset(names | {f"{name}_FILE" for name in names} | {ROOM})


def check_secrets(patient: Patient) -> list[Finding]:
    """There, long enough, different from each other, and readable by their owner alone."""
    settings = patient.any_settings
    if settings is None:
        return [skipped("secrets", "the settings come first")]
    found = [*_unusable(patient), *_shared(patient), *_open_files(settings)]
    return found or [ok("secrets", "there, long enough, each its own, for their owner alone")]


def _unknown(name: str) -> Finding:
    near = difflib.get_close_matches(name, known_names(), n=1)
    mend = f"Did you mean {near[0]}?" if near else "Remove it, or see the README for the name."
    return warning("settings", f"{name} is set, and no room reads it.", mend)


def _unusable(patient: Patient) -> Iterator[Finding]:
    tried: set[str] = set()
    for name, settings, given in _needed(patient):
        try:
            settings.secret(name, given)
        except SettingsError as error:
            if name not in tried:
                yield failed("secrets", str(error), f"Or set LEADS_{name.upper()}, or LEADS_{name.upper()}_FILE.")
            tried.add(name)
    if patient.api is not None and patient.api.jwt_private_key is not None:
        try:
            Tokens(patient.api.token_key, STAFF)
        except ValueError as error:
            yield failed("secrets", f"LEADS_JWT_PRIVATE_KEY: {error}.", "Make one: openssl genrsa -out key.pem 2048")


def _needed(patient: Patient) -> Iterator[tuple[str, Settings, SecretStr | None]]:
    if patient.api is not None and patient.api.jwt_private_key is None:
        yield "jwt_secret", patient.api, patient.api.jwt_secret
    for settings in (patient.api, patient.storage):
        if settings is not None:
            yield "service_secret", settings, settings.service_secret


def _shared(patient: Patient) -> Iterator[Finding]:
    """A key for two purposes: whoever gets hold of one has the other."""
    owners: dict[str, str] = {}
    for setting, value in dict(_values(patient)).items():
        other = owners.setdefault(value, setting)
        if other != setting:
            yield failed(
                "secrets",
                f"{other} and {setting} are the same: whoever learns one has the other.",
                f"Give {setting} a value of its own.",
            )


def _values(patient: Patient) -> Iterator[tuple[str, str]]:
    for name, settings, given in _needed(patient):
        try:
            yield f"LEADS_{name.upper()}", settings.secret(name, given)
        except SettingsError:
            continue  # `_unusable` has told
    if patient.notifier is not None and patient.notifier.sendgrid_api_key is not None:
        yield "SENDGRID_API_KEY", patient.notifier.sendgrid_api_key.get_secret_value()


def _open_files(settings: Settings) -> Iterator[Finding]:
    made = secret_file(settings.data_dir, "x").parent
    for file in sorted(made.glob("[!.]*")):
        if file.stat().st_mode & _OTHERS_MAY_READ:
            yield failed("secrets", f"{file} may be read by others than its owner.", f"chmod 600 {file}")
    for name in sorted(known_names() & os.environ.keys()):
        file = Path(os.environ[name])
        if name.endswith("_FILE") and file.is_file() and file.stat().st_mode & stat.S_IRWXO:
            yield warning("secrets", f"{name}: {file} may be read by everybody here.", f"chmod 600 {file}")
