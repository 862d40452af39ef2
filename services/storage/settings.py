"""The settings of the storage room, on top of those that every room shares."""

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import Field, SecretStr

from shared.settings import PublicSettings, SettingsError

MIB = 1024 * 1024

BUCKET_SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""


class StorageSettings(PublicSettings):
    """Where resumes are kept, and how much of them."""

    blob_url: str = ""
    resume_max_bytes: int = Field(default=5 * MIB, ge=1)
    storage_min_free_bytes: int = Field(default=64 * MIB, ge=0)
    storage_temp_grace_seconds: float = Field(default=60.0, ge=1.0)
    aws_access_key_id: SecretStr | None = Field(default=None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(default=None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr | None = Field(default=None, validation_alias="AWS_SESSION_TOKEN")
    google_service_account_key: SecretStr | None = Field(default=None, validation_alias="GOOGLE_SERVICE_ACCOUNT_KEY")
    azure_storage_account_key: SecretStr | None = Field(default=None, validation_alias="AZURE_STORAGE_ACCOUNT_KEY")
    azure_storage_sas_token: SecretStr | None = Field(default=None, validation_alias="AZURE_STORAGE_SAS_TOKEN")

    @property
    def bucket_url(self) -> str | None:
        """`LEADS_BLOB_URL` if it names a bucket, None if a folder. Raises `SettingsError` for half a name."""
        url = urlsplit(self.blob_url)
        if url.scheme not in BUCKET_SCHEMES:
            return None
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", url.netloc) or url.query or url.fragment:
            raise SettingsError("LEADS_BLOB_URL must name a bucket and, if need be, a prefix, as in s3://bucket/leads.")
        return self.blob_url

    @property
    def upload_folder(self) -> Path:
        """Where uploads that come in several requests wait until they are whole, if resumes are kept in a bucket."""
        return self.data_dir / "uploads"

    @property
    def blob_folder(self) -> Path:
        """The folder that `LEADS_BLOB_URL` names, or `resumes` in the data folder. Raises `SettingsError` if none."""
        if not self.blob_url:
            return self.data_dir / "resumes"
        if self.bucket_url:
            raise SettingsError("LEADS_BLOB_URL names a bucket, and no folder.")
        url = urlsplit(self.blob_url)
        if url.scheme != "file" or url.netloc not in {"", "localhost"} or url.path in {"", "/"}:
            example = "file:///var/lib/leads/resumes or s3://bucket/leads"
            raise SettingsError(f"LEADS_BLOB_URL must name a folder or a bucket (s3, gs, az), as in {example}.")
        return Path(url2pathname(url.path))
