"""What the staff's list can be asked for, as it stands in a query and in the document."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel

from services.api.search import NO_NUL, PAGE_DEFAULT, PAGE_MAX, SORTS, LeadQuery
from services.api.states import LeadState


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("This is before or after all years that there are.") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""In UTC, which is what all databases keep, and some take for granted."""


class ListParameters(BaseModel):
    """What the list can be asked for."""

    model_config = {"extra": "forbid"}

    state: LeadState | None = Query(default=None, description="Only leads in this state.")
    q: str | None = Query(default=None, max_length=200, pattern=NO_NUL, description="Words of the name or the address.")
    resume: str | None = Query(
        default=None, max_length=200, pattern=NO_NUL, description="Words that are in the resume, where that is offered."
    )
    email: str | None = Query(default=None, max_length=254, pattern=NO_NUL, description="The address, in any case.")
    created_after: Instant | None = Query(default=None, description="Only leads sent after this instant.")
    created_before: Instant | None = Query(default=None, description="Only leads sent before this instant.")
    sort: str = Query(
        default="-created_at",
        description="With - before it for downwards.",
        json_schema_extra={"enum": [sign + sort for sort in SORTS for sign in ("", "-")]},
    )
    limit: int = Query(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX, description="Leads on a page.")
    cursor: str | None = Query(default=None, max_length=2000, description="`next_cursor` of the page before.")
    total: bool = Query(default=False, description="Count all that match, which takes longer.")

    def query(self) -> LeadQuery:
        """The same in the words of the search."""
        return LeadQuery(
            state=self.state,
            words=self.q,
            resume=self.resume,
            email=self.email,
            created_after=self.created_after,
            created_before=self.created_before,
            sort=self.sort,
            limit=self.limit,
            cursor=self.cursor,
        )
