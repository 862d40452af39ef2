"""A bucket of S3, Google Cloud Storage or Azure Blob Storage by its URL: how it is reached, and what its troubles mean.

The library is obstore, over Rust's object_store. Whatever the cloud's own environment variables say it reads by itself:
regions, endpoints, roles of machines (https://developmentseed.org/obstore/latest/api/store/aws/, .../gcs/, .../azure/).
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store
from pydantic import SecretStr

from services.storage.settings import BUCKET_SCHEMES, StorageSettings
from shared.settings import SettingsError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

Bucket = S3Store | GCSStore | AzureStore

TROUBLES = (BaseError, OSError, TimeoutError)
"""All that a call of a bucket may raise."""

ANSWER_SECONDS = 3.5
"""How long a bucket may take for one short call, repeats included: less than the api waits for the storage (4 s)."""

_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=1),
    "read_timeout": timedelta(seconds=3),
    "timeout": timedelta(hours=1),  # of a whole answer: a reader may be slow, while the bucket may not
}

_RETRY: "RetryConfig" = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=2.5),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
"""A 5xx, which `SlowDown` is, a connection that breaks. What goes on for longer is the caller's to repeat."""

_CODE = re.compile(r"<Code>\s*([^<]{1,100}?)\s*</Code>")
_SAID = re.compile(r"<Message>\s*([^<\n]{1,200})")
_ADDRESS = re.compile(r"https?://([^/\s?]+)[^\s]*")
_STATUS = re.compile(r"status code: ([0-9]{3} [A-Za-z ]+)")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_WRONG_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AuthenticationFailed"})


class BucketTrouble(Exception):  # noqa: N818
    """Why a call of the bucket failed, in one line without a secret; `advice` is for whoever can mend it."""

    def __init__(self, said: str, advice: str) -> None:
        super().__init__(said)
        self.advice = advice

    @property
    def told(self) -> str:
        """Both, as one line."""
        return f"{self} ({self.advice})" if self.advice else str(self)


def bucket_of(settings: StorageSettings) -> Bucket:
    """The bucket that `LEADS_BLOB_URL` names; nothing is asked of it yet. Raises `SettingsError`."""
    url = settings.bucket_url
    assert url is not None
    scheme = urlsplit(url).scheme
    try:
        if scheme == "s3":
            return S3Store.from_url(url, client_options=_client("AWS_"), retry_config=_RETRY, **_s3(settings))
        if scheme == "gs":
            return GCSStore.from_url(url, client_options=_client("GOOGLE_"), retry_config=_RETRY, **_gcs(settings))
        assert scheme in BUCKET_SCHEMES
        return AzureStore.from_url(url, client_options=_client("AZURE_"), retry_config=_RETRY, **_azure(settings))
    except (BaseError, ValueError, OSError) as error:
        raise SettingsError(f"LEADS_BLOB_URL: {url} cannot be used: {_first_line(error)}.") from None


def trouble_of(error: BaseException) -> BucketTrouble:
    """What a failed call means. What the cloud said, without the addresses, which may hold signatures."""
    if isinstance(error, TimeoutError):
        return BucketTrouble(f"the bucket did not answer within {ANSWER_SECONDS:g} s", "")
    text = str(error)
    code = _found(_CODE, text)
    if is_bucket_missing(error):
        return BucketTrouble("there is no such bucket", "make it, or correct LEADS_BLOB_URL")
    if code in _WRONG_KEY or isinstance(error, UnauthenticatedError):
        return BucketTrouble(f"the credentials are refused: {code or _first_line(error)}", "correct the access key")
    if isinstance(error, PermissionDeniedError):
        advice = "allow these credentials to get, put, delete and list in this bucket"
        return BucketTrouble(f"access is denied: {code or _first_line(error)}", advice)
    if code:
        return BucketTrouble(f"the bucket answers {code}: {_found(_SAID, text)}", "")
    return BucketTrouble(f"the bucket cannot be used: {_first_line(error)}", "")


def is_bucket_missing(error: BaseException) -> bool:
    """Whether it is the bucket that was not found, and not only the object."""
    text = str(error)
    return _found(_CODE, text) in _NO_BUCKET or "bucket does not exist" in text


def _client(prefix: str) -> "ClientConfig":
    """Unencrypted only where an endpoint says so: to a store in the same house, or a test's."""
    endpoints = (name for name in os.environ if name.startswith(prefix) and ("ENDPOINT" in name or "BASE_URL" in name))
    plain = any(os.environ[name].startswith("http://") for name in endpoints)
    return {**_CLIENT, "allow_http": True} if plain else _CLIENT


def _s3(settings: StorageSettings) -> Mapping[str, Any]:
    given = {
        "access_key_id": settings.aws_access_key_id,
        "secret_access_key": settings.aws_secret_access_key,
        "session_token": settings.aws_session_token,
    }
    # What a name may be given to is said in CompleteMultipartUpload; another house's way may be set instead. Not every
    # house knows how to delete many at once.
    ours = {"copy_if_not_exists": "multipart", "disable_bulk_delete": "true", "checksum_algorithm": "sha256"}
    unset = {name: value for name, value in ours.items() if f"AWS_{name.upper()}" not in os.environ}
    return {**_told(given), **unset}


def _gcs(settings: StorageSettings) -> Mapping[str, Any]:
    return _told({"service_account_key": settings.google_service_account_key})


def _azure(settings: StorageSettings) -> Mapping[str, Any]:
    return _told({"account_key": settings.azure_storage_account_key, "sas_key": settings.azure_storage_sas_token})


def _told(given: Mapping[str, SecretStr | None]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in given.items() if value is not None}


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1].strip() if match else ""


def _first_line(error: BaseException) -> str:
    line = str(error).partition("\n")[0].strip()
    status = _found(_STATUS, line)
    return status or _ADDRESS.sub(r"\1", line)[:300] or type(error).__name__
