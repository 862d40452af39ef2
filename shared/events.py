"""Every event that crosses the bus: its CloudEvents 1.0 envelope and its data, with who publishes and who consumes it.

Rules for change: a field may be added with a default; nothing is renamed or removed; what cannot be said that way is a
new version beside the old one. `tests/contract/golden/` holds one JSON per version that ever left a queue.
"""

import re
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.ids import new_id

MEDIA_TYPE = "application/cloudevents+json"
"""Media type of the structured JSON form (CloudEvents JSON format 1.0.2, section 3)."""

CORRELATION_ID_PATTERN = r"[A-Za-z0-9._:-]{1,64}"
"""Pattern of a correlation id: short and plain enough to be carried into logs and headers."""

TRACEPARENT_PATTERN = r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
"""Pattern of the W3C trace context that is carried on (https://www.w3.org/TR/trace-context/, section 3.2.2)."""


class EventData(BaseModel):
    """What an event says. Subclasses name their `TYPE`, which is also the routing key, and their `VERSION`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    VERSION: ClassVar[int]
    SOURCE: ClassVar[str]

    @classmethod
    def schema_urn(cls) -> str:
        """The CloudEvents `dataschema`: names type and version, so that a reader knows which golden file it is."""
        return f"urn:leads:schema:{cls.TYPE}:{cls.VERSION}"

    @classmethod
    def readable_schemas(cls) -> frozenset[str]:
        """The `dataschema` of every version so far: fields are only ever added, so this class reads the old ones."""
        return frozenset(f"urn:leads:schema:{cls.TYPE}:{version}" for version in range(1, cls.VERSION + 1))


class ResumeFacts(BaseModel):
    """What is known of a stored resume. The bytes themselves never travel over the bus."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    filename: str
    content_type: str
    size_bytes: int = Field(ge=1)
    sha256: str


class LeadCreated(EventData):
    """A lead was accepted.

    Published by: api, from its outbox, in the transaction that kept the lead.
    Consumed by: notifier (queue `notifier`), which e-mails the prospect and the staff.
    It carries the name and the address, so that the notifier needs nobody's table to do its work.
    """

    TYPE: ClassVar[str] = "lead.created"
    VERSION: ClassVar[int] = 1
    SOURCE: ClassVar[str] = "urn:leads:api"

    lead_id: str
    first_name: str
    last_name: str
    email: str
    resume: ResumeFacts
    created_at: AwareDatetime


EVENT_TYPES: dict[str, type[EventData]] = {LeadCreated.TYPE: LeadCreated}
"""Each `type` on the wire and the class that reads it."""


class Event(BaseModel):
    """The CloudEvents 1.0 envelope (structured JSON). `id` is also the outbox id and the AMQP `message_id`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str = Field(default="1.0", pattern=r"^1\.0$")
    id: str
    source: str
    type: str
    subject: str
    time: AwareDatetime
    datacontenttype: str = "application/json"
    dataschema: str
    correlationid: str | None = None
    traceparent: str | None = None
    data: dict[str, Any]

    @classmethod
    def of(
        cls,
        data: EventData,
        *,
        subject: str,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Self:
        """Wrap `data` in a new envelope with a fresh time-ordered id (UUIDv7, RFC 9562)."""
        return cls(
            id=new_id(),
            source=data.SOURCE,
            type=data.TYPE,
            subject=subject,
            time=datetime.now(UTC),
            dataschema=data.schema_urn(),
            correlationid=correlation_id,
            traceparent=traceparent,
            data=data.model_dump(mode="json"),
        )

    def payload(self) -> EventData:
        """The typed data. Raises `UnknownEventType`, or pydantic's `ValidationError` when it does not fit.

        A version that is newer than the class here may mean what we do not know: it is not read on hope.
        """
        cls = EVENT_TYPES.get(self.type)
        if cls is None:
            raise UnknownEventType("its type is not known here")
        if self.dataschema not in cls.readable_schemas():
            raise UnknownEventType("its version (dataschema) is not known here")
        return cls.model_validate(self.data)

    def encode(self) -> bytes:
        """The event as structured-mode JSON, without the optional attributes that are not set."""
        return self.model_dump_json(exclude_none=True).encode()


class UnknownEventType(ValueError):  # noqa: N818
    """An event whose `type`, or whose version of it, no class here reads."""


def is_correlation_id(text: str) -> bool:
    """Whether a caller's correlation id can be carried on as it is."""
    return re.fullmatch(CORRELATION_ID_PATTERN, text) is not None
