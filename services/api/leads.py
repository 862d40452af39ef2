"""Leads as the staff meet them: what one looks like, finding one, moving one on."""

import re
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.api import store
from services.api.states import LeadState, may_move
from services.api.tables import Lead, LeadRow
from shared.database import Database, as_utc
from shared.ids import is_id
from shared.problems import Problem, ProblemType

_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"')


class ResumeView(BaseModel):
    """The stored resume."""

    model_config = ConfigDict(frozen=True)

    filename: str = Field(description="As the person named it; never used as a path.")
    content_type: str
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Hash of the stored bytes, in hex.")


class LeadView(BaseModel):
    """A lead as the API shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    first_name: str
    last_name: str
    email: str
    resume_path: str = Field(description="Key of the resume in the storage.")
    resume: ResumeView
    state: LeadState
    created_at: datetime

    @classmethod
    def of(cls, lead: Lead | store.NewLead) -> "LeadView":
        """The view of what has every column by its name."""
        return cls.model_validate(shown(lead))


def shown(lead: Lead | LeadRow | store.NewLead) -> dict[str, Any]:
    """`LeadView.of(lead)` as plain values: to make objects of a whole page costs more than to find it."""
    return {
        "id": lead.id,
        "first_name": lead.first_name,
        "last_name": lead.last_name,
        "email": lead.email,
        "resume_path": lead.resume_path,
        "resume": {
            "filename": lead.resume_filename,
            "content_type": lead.resume_content_type,
            "size": lead.resume_size_bytes,
            "sha256": lead.resume_sha256,
        },
        "state": lead.state,
        "created_at": as_utc(lead.created_at),
    }


class LeadPage(BaseModel):
    """One page of the list."""

    model_config = ConfigDict(frozen=True)

    items: list[LeadView]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")
    total: int | None = Field(default=None, description="All that match, if `total=true` was asked for.")


class LeadChange(BaseModel):
    """What staff may change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: LeadState


async def find_lead(database: Database, lead_id: str) -> Lead:
    """The lead of that id. Raises `Problem` 404."""
    lead = await database.read(partial(store.get_lead, lead_id=lead_id)) if is_id(lead_id) else None
    if lead is None:
        raise no_lead()
    return lead


def no_lead() -> Problem:
    """The 404."""
    return Problem(ProblemType.NOT_FOUND, "There is no lead of this id.")


async def move_lead(database: Database, lead_id: str, wanted: LeadState, if_match: str | None) -> Lead:
    """The lead, moved to `wanted`. Raises `Problem` 404, 409 (illegal move), 412 (not as `if_match` says)."""
    lead = await find_lead(database, lead_id)
    _check_version(lead, if_match)
    if lead.state == wanted:
        return lead
    if not may_move(lead.state, wanted):
        detail = f"A lead that is {lead.state} cannot become {wanted}."
        raise Problem(ProblemType.ILLEGAL_TRANSITION, detail)
    version = lead.version if if_match else None
    moved = await database.write(partial(store.move_lead, lead_id=lead_id, wanted=wanted, version=version))
    if moved is None:
        # Somebody moved it between our look and our move: judge again by what it is now.
        return await move_lead(database, lead_id, wanted, if_match)
    return moved


async def is_kept(database: Database, blob_id: str) -> bool:
    """Whether a lead refers to that blob, for good. Raises `Problem` 503 when the database does not say."""
    return bool(await database.read(partial(store.known_paths_for_good, paths=[blob_id])))


async def resume_of(database: Database, blob_id: str) -> store.Resume | None:
    """The resume under that id if a lead has it. Raises `Problem` 503 when the database does not say."""
    return await database.read(partial(store.resume_of, blob_id=blob_id))


def etag(lead: Lead) -> str:
    """The lead's entity tag (RFC 9110, section 8.8.3)."""
    return f'"{lead.version}"'


def _check_version(lead: Lead, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if str(lead.version) not in _ENTITY_TAG.findall(if_match):
        detail = "Somebody changed this lead after you read it: read it again."
        raise Problem(ProblemType.PRECONDITION_FAILED, detail, headers={"ETag": etag(lead)})
