"""The settings of the storage room, on top of those that every room shares."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import Field

from shared.settings import Settings, SettingsError

MIB = 1024 * 1024


class StorageSettings(Settings):
    """Where resumes are kept, and how much of them."""

    blob_url: str = ""
    resume_max_bytes: int = Field(default=5 * MIB, ge=1)
    storage_min_free_bytes: int = Field(default=64 * MIB, ge=0)
    storage_temp_grace_seconds: float = Field(default=60.0, ge=1.0)

    @property
    def blob_folder(self) -> Path:
        """The folder that `LEADS_BLOB_URL` names, or `resumes` in the data folder. Raises `SettingsError`."""
        if not self.blob_url:
            return self.data_dir / "resumes"
        url = urlsplit(self.blob_url)
        if url.scheme != "file" or url.netloc not in {"", "localhost"} or url.path in {"", "/"}:
            raise SettingsError("LEADS_BLOB_URL must name a folder, as in file:///var/lib/leads/resumes.")
        return Path(url2pathname(url.path))
