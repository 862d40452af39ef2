"""Settings of the api: where its database and its storage are, what it accepts, and how staff sign in."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from limits import RateLimitItem, parse
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from services.api.resumes import ResumeKind
from shared.mysql import SCHEMES as MYSQL_SCHEMES
from shared.settings import PublicSettings, authority, split_list
from shared.tickets import UNCLAIMED_SECONDS

MIB = 1024 * 1024


class ApiSettings(PublicSettings):
    """Read by `services.api` and by the commands `leads users`, `leads queues` and `leads audit`."""

    database_url: str = ""
    storage_url: str = ""
    resume_max_bytes: int = Field(default=5 * MIB, ge=1024)
    resume_kinds: Annotated[frozenset[ResumeKind], NoDecode] = frozenset({ResumeKind.PDF, ResumeKind.DOCX})
    upload_concurrency: int = Field(default=32, ge=1)
    intake_rate: str = "60/minute"
    login_rate: str = "10/minute"
    rate_counts: str = Field(default="process", pattern="^(process|database)$")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    jwt_secret: SecretStr | None = None
    jwt_private_key: SecretStr | None = None
    token_lifetime_seconds: int = Field(default=3600, ge=60, le=12 * 3600)
    admin_password: SecretStr | None = None
    orphan_grace_seconds: float = Field(default=3600, ge=0)
    sweep_interval_seconds: float = Field(default=600, gt=0)
    blob_redirect: bool = False
    resume_search: bool = False

    @field_validator("resume_kinds", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_list(value)

    @field_validator("intake_rate", "login_rate")
    @classmethod
    def _known_rate(cls, value: str) -> str:
        rate(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _known_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network, strict=False)
        return value

    @model_validator(mode="after")
    def _search_where_it_is_offered(self) -> Self:
        if self.resume_search and self.database_url.startswith(MYSQL_SCHEMES):
            raise ValueError("LEADS_RESUME_SEARCH is not offered with MySQL: leave it out, or use PostgreSQL or SQLite")
        return self

    @property
    def resolved_database_url(self) -> str:
        """`LEADS_DATABASE_URL`, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir / 'leads.db'}"

    @property
    def resolved_storage_url(self) -> str:
        """`LEADS_STORAGE_URL`, or the storage that `leads up` starts."""
        return self.storage_url.rstrip("/") or f"http://{authority(self.host, self.storage_port)}"

    @property
    def unclaimed_seconds(self) -> float:
        """How long a resume may wait for its lead: as set, and never shorter than a ticket for it may be good."""
        if not self.storage_public_url:
            return self.orphan_grace_seconds
        return max(self.orphan_grace_seconds, UNCLAIMED_SECONDS)

    @property
    def token_key(self) -> str:
        """The key staff tokens are signed with: an RSA key (RS256) where one is given, else the secret (HS256)."""
        if self.jwt_private_key is not None:
            return self.jwt_private_key.get_secret_value()
        return self.secret("jwt_secret", self.jwt_secret)


def rate(text: str) -> RateLimitItem | None:
    """`60/minute` and the like; `off` is no limit. Raises `ValueError`."""
    return None if text == "off" else parse(text)


MIGRATIONS = Path(__file__).parent / "migrations" / "versions"
