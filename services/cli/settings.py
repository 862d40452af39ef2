"""Settings of `leads up` and `leads init`: those of every room, and the few of single rooms that these must know."""

from pathlib import Path

from pydantic import Field, SecretStr

from shared.settings import Settings

_FILE_URL = "file://"


class CliSettings(Settings):
    """Read from the same names as the rooms read them from."""

    jwt_secret: SecretStr | None = None
    admin_password: SecretStr | None = None
    database_url: str = ""
    notifier_database_url: str = ""
    mail_url: str = ""
    cpu_pinning: str = Field(default="auto", pattern="^(auto|off)$")
    sendgrid_api_key: SecretStr | None = Field(default=None, validation_alias="SENDGRID_API_KEY")

    @property
    def is_embedded(self) -> bool:
        """Whether both databases are the files in the data folder."""
        return not self.database_url and not self.notifier_database_url

    @property
    def mailbox(self) -> Path | None:
        """The folder that e-mails are written to, or None when they are really sent."""
        if self.mail_url.startswith(_FILE_URL):
            return Path(self.mail_url.removeprefix(_FILE_URL))
        if self.mail_url or self.sendgrid_api_key:
            return None
        return self.data_dir / "mailbox"
