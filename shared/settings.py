"""Settings that every room shares, and how each setting is read: from the environment, or from a file (`*_FILE`).

Names start with `LEADS_`. Each room's own settings stand in its `settings.py`. There is no default secret: `leads init`
makes them as files that only their owner can read, and a room refuses to start without.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.topology import DEFAULT_RETRY_DELAYS_SECONDS

SECRET_MIN_BYTES = 32
"""HS256 wants a key at least as long as its hash (RFC 7518, section 3.2)."""

EX_CONFIG = 78
"""Exit status of a room whose settings cannot work (sysexits.h): whoever supervises it need not try again."""

AnySettings = TypeVar("AnySettings", bound="Settings")


EX_TEMPFAIL = 75
"""Exit status of a room that could not start now and may later (sysexits.h)."""


class CannotStart(Exception):  # noqa: N818
    """Why a room cannot start, in one line for whoever can mend it. `exit_status` says whether to try again."""

    exit_status = EX_CONFIG


class SettingsError(CannotStart):
    """A setting that cannot work, said in one line that names it."""


class _EnvironmentOrFile(EnvSettingsSource):
    """`NAME` from the environment, or the content of the file that `NAME_FILE` names, as container secrets come.

    A blank `NAME` beside a `NAME_FILE` is none: that is how a line that was not filled in looks in an `.env`.
    """

    def _load_env_vars(self) -> dict[str, str | None]:
        found = dict(super()._load_env_vars())
        for field, about in self.settings_cls.model_fields.items():
            name = str(about.validation_alias or f"{self.env_prefix}{field}").lower()
            path = found.get(f"{name}_file")
            if path and not found.get(name):
                found[name] = _read_setting_file(f"{name}_file", Path(path))
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Lists and the like are written in JSON, unless the setting says otherwise. Raises `SettingsError`."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            name = str(field.validation_alias or f"{self.env_prefix}{field_name}").upper()
            raise SettingsError(f"{name} is not valid: it must be JSON, such as [10, 60].") from None


class Settings(BaseSettings):
    """What api, storage and notifier all need to know."""

    model_config = SettingsConfigDict(env_prefix="LEADS_", extra="ignore", frozen=True, populate_by_name=True)

    data_dir: Path = Path("data")
    broker_url: str = ""
    service_secret: SecretStr | None = None
    api_port: int = Field(default=8000, ge=1, le=65535)
    storage_port: int = Field(default=8001, ge=1, le=65535)
    notifier_port: int = Field(default=8002, ge=1, le=65535)
    host: str = "127.0.0.1"
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field(default="auto", pattern="^(auto|json|pretty)$")
    retry_delays_seconds: tuple[float, ...] = DEFAULT_RETRY_DELAYS_SECONDS
    admin_email: str = "admin@leads.example"
    otlp_endpoint: str = ""
    otlp_headers: SecretStr | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_HEADERS")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first (tests), then the environment and its files; nothing else is looked at."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _EnvironmentOrFile(settings_cls)

    @property
    def resolved_broker_url(self) -> str:
        """`LEADS_BROKER_URL`, or the embedded bus in the data folder."""
        return self.broker_url or f"sqlite:///{self.data_dir / 'queue.db'}"

    def secret(self, name: str, given: SecretStr | None) -> str:
        """The secret `name`: as given, or from the file that `leads init` made. Raises `SettingsError`."""
        setting = f"LEADS_{name.upper()}"
        if given is not None:
            value = given.get_secret_value().strip()
        else:
            file = secret_file(self.data_dir, name)
            if not file.exists():
                raise SettingsError(
                    f"{setting} is not set, and {file} does not exist: run `leads init`, which makes it."
                )
            value = _read_setting_file(setting, file)
        if len(value.encode()) < SECRET_MIN_BYTES:
            raise SettingsError(f"{setting} is too short: it needs at least {SECRET_MIN_BYTES} bytes.")
        return value

    @property
    def resolved_service_secret(self) -> str:
        """The key that api and storage share. Raises `SettingsError`."""
        return self.secret("service_secret", self.service_secret)


class PublicSettings(Settings):
    """What rooms must know that strangers may reach: the api, and the storage where it takes uploads from them."""

    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    storage_public_url: str = ""
    """Where clients find the storage; empty where it is for the api alone."""

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return split_list(value)

    @field_validator("storage_public_url")
    @classmethod
    def _public_url(cls, value: str) -> str:
        url = urlsplit(value)
        if value and (url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment):
            raise ValueError("it must be an address such as https://uploads.example.com")
        return value.rstrip("/")


def split_list(value: object) -> object:
    """Lists are written `a,b,c`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def load(cls: type[AnySettings], **given: Any) -> AnySettings:
    """Read settings; a value that does not fit is a `SettingsError` naming the setting, not a stack trace."""
    try:
        return cls(**given)
    except ValidationError as error:
        raise SettingsError(complaints(error)[0]) from None


def complaints(error: ValidationError) -> list[str]:
    """What is wrong with each setting: a line each, without the value, which may be a secret."""
    return [_complaint(one) for one in error.errors(include_input=False)]


def _complaint(one: ErrorDetails) -> str:
    said = one["msg"].removeprefix("Value error, ")
    if not one["loc"]:
        return f"{said}."  # two settings that do not fit together: the text names them
    field = str(one["loc"][0])
    name = field if field.isupper() else f"LEADS_{field.upper()}"
    return f"{name} is not valid: {said}."


def load_or_exit(cls: type[AnySettings]) -> AnySettings:
    """`load` for an entry point: a wrong setting is one line on stderr and exit status 78."""
    try:
        return load(cls)
    except SettingsError as error:
        exit_with(error)


def exit_with(error: SettingsError) -> NoReturn:
    """Say what is wrong with the settings and stop."""
    sys.stderr.write(f"leads: {error}\n")
    sys.exit(EX_CONFIG)


def authority(host: str, port: int) -> str:
    """`host:port` as this machine reaches it: a room that listens everywhere is also reached at the loopback."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def secret_file(data_dir: Path, name: str) -> Path:
    """Where a secret that was made at first start is kept."""
    return data_dir / "secrets" / name


def make_secret_file(path: Path, value: str) -> bool:
    """Keep `value` at `path` for its owner's eyes only, unless the file is there already; whether it was made."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-") as file:  # made with mode 0600
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)  # whole or not at all, also for a room that starts at this moment
        except FileExistsError:
            return False
    return True


def _read_setting_file(setting: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{setting.upper()}: {path} cannot be read ({error.strerror}).") from None
