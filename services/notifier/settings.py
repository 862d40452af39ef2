"""Settings of the notifier: how mail leaves, from whom, to which staff, and where it remembers what was sent."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from services.notifier.email import Sender, is_sendable_address
from services.notifier.transport import DEFAULT_SENDGRID_BASE_URL
from shared.settings import Settings, authority

SENDGRID = "sendgrid://"


class NotifierSettings(Settings):
    """Read by `services.notifier`."""

    notifier_database_url: str = ""
    mail_url: str = ""
    mail_from: str = "leads@leads.example"
    mail_from_name: str = "Leads"
    mail_reply_to: str | None = None
    staff_email: Annotated[tuple[str, ...], NoDecode] = ()
    public_url: str = ""
    prospect_mails_per_day: int = Field(default=5, ge=1)
    concurrency: int = Field(default=64, ge=1, le=256, validation_alias="LEADS_NOTIFIER_CONCURRENCY")
    sendgrid_api_key: SecretStr | None = Field(default=None, validation_alias="SENDGRID_API_KEY")
    sendgrid_base_url: str = Field(default=DEFAULT_SENDGRID_BASE_URL, validation_alias="SENDGRID_BASE_URL")

    @field_validator("staff_email", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Several addresses are written `a@x,b@y`."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _staff_can_be_reached(self) -> Self:
        if self.resolved_mail_url == SENDGRID and not self.staff_email:
            raise ValueError("LEADS_STAFF_EMAIL must name who is told of a lead before mail leaves through SendGrid")
        for address in (*self.resolved_staff_email, self.mail_from):
            if not is_sendable_address(address):
                raise ValueError(f"{address!r} is not an e-mail address (LEADS_STAFF_EMAIL, LEADS_MAIL_FROM)")
        return self

    @property
    def resolved_database_url(self) -> str:
        """`LEADS_NOTIFIER_DATABASE_URL`, or SQLite in the data folder."""
        return self.notifier_database_url or f"sqlite:///{self.data_dir / 'notifier.db'}"

    @property
    def resolved_mail_url(self) -> str:
        """`LEADS_MAIL_URL`; else SendGrid when there is a key for it, and a folder of `.eml` files without."""
        if self.mail_url:
            return self.mail_url
        return SENDGRID if self.sendgrid_api_key else (self.data_dir.absolute() / "mailbox").as_uri()

    @property
    def resolved_staff_email(self) -> tuple[str, ...]:
        """Who is told of a new lead: `LEADS_STAFF_EMAIL`, or the admin."""
        return self.staff_email or (self.admin_email,)

    @property
    def resolved_public_url(self) -> str:
        """Where links in e-mails lead."""
        return self.public_url.rstrip("/") or f"http://{authority(self.host, self.api_port)}"

    @property
    def sender(self) -> Sender:
        """Whom e-mails come from."""
        return Sender(self.mail_from, self.mail_from_name, self.mail_reply_to)


MIGRATIONS = Path(__file__).parent / "migrations" / "versions"
