"""The sweep removes what a crash left and nothing else, also when clocks jump, or beside a database that lost leads."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete
from sqlmodel import col

from services.api import store
from services.api.settings import MIGRATIONS
from services.api.sweep import WATCHED_SECONDS, Sweep
from services.api.tables import Lead
from shared.database import Database
from shared.ids import lowest_id, new_id
from shared.problems import Problem, ProblemType
from shared.tickets import TICKET_SECONDS
from shared.tokens import LEEWAY_SECONDS

GRACE_SECONDS = 3600.0


class Blobs:
    """A storage whose blobs are as old as they are said to be."""

    def __init__(self) -> None:
        self.stored_at: dict[str, datetime] = {}
        self.noted: str | None = None
        self.is_away = False
        self.holds: int | None = None
        """How many blobs leave no room for a note; None for a disk that is never full."""

    def add(self, *, age: timedelta) -> str:
        blob_id = new_id()
        self.stored_at[blob_id] = datetime.now(UTC) - age
        return blob_id

    async def list_stored(self, before: datetime, after_id: str) -> tuple[list[str], str | None]:
        return sorted(id_ for id_, at in self.stored_at.items() if at < before and id_ > after_id), None

    async def remove(self, blob_id: str) -> None:
        if self.is_away:
            raise Problem(ProblemType.UNAVAILABLE, "away")
        del self.stored_at[blob_id]

    async def newest_lead(self) -> str | None:
        return self.noted

    async def note_newest_lead(self, lead_id: str) -> None:
        if self.holds is not None and len(self.stored_at) >= self.holds:
            raise Problem(ProblemType.STORAGE_FULL, "full")
        self.noted = lead_id


class House:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.blobs = Blobs()
        self.now = 0.0
        self.sweep = self.restarted()

    def restarted(self) -> Sweep:
        return Sweep(self.database, self.blobs, grace_seconds=GRACE_SECONDS, clock=lambda: self.now)  # type: ignore[arg-type]

    async def add_lead(self, blob_id: str) -> str:
        lead = Lead(
            id=new_id(),
            first_name="Ann",
            last_name="Lee",
            email=f"{blob_id}@example.com",
            email_key=f"{blob_id}@example.com",
            search_text="",
            resume_path=blob_id,
            resume_filename="cv.pdf",
            resume_content_type="application/pdf",
            resume_size_bytes=1,
            resume_sha256="",
            created_at=datetime.now(UTC),
        )
        await self.database.write(lambda session: session.add(lead))
        return lead.id

    async def rounds(self, count: int = 2) -> int:
        """So many, each a whole watch after the one before."""
        swept = 0
        for _ in range(count):
            swept += await self.sweep.sweep_once()
            self.now += WATCHED_SECONDS
        return swept


@pytest.fixture
async def house(database_url: str):
    database = Database(database_url)
    await database.migrate(MIGRATIONS)
    house = House(database)
    for _ in range(3):
        await house.add_lead(house.blobs.add(age=timedelta()))
    yield house
    await database.close()


async def test_a_blob_whose_lead_is_being_committed_is_not_taken_for_old_because_a_clock_jumped(house: House):
    """By the clock it is two hours old; it was stored just now. So it is with a laptop that wakes up."""
    blob_id = house.blobs.add(age=timedelta(hours=2))
    await house.sweep.sweep_once()
    house.now += WATCHED_SECONDS - 1
    await house.sweep.sweep_once()
    assert blob_id in house.blobs.stored_at
    await house.add_lead(blob_id)
    await house.rounds(3)
    assert blob_id in house.blobs.stored_at


async def test_an_orphan_goes_once_it_is_old_and_was_watched(house: House):
    old, young = house.blobs.add(age=timedelta(hours=2)), house.blobs.add(age=timedelta(minutes=50))
    assert await house.rounds() == 1
    assert (old in house.blobs.stored_at, young in house.blobs.stored_at) == (False, True)


async def test_a_disk_that_orphans_have_filled_is_swept_though_there_is_no_room_for_a_note(house: House):
    """Strangers with tickets can fill it. If only a note could be written, the sweep could make room for it."""
    orphans = {house.blobs.add(age=timedelta(hours=2)) for _ in range(3)}
    house.blobs.holds = len(house.blobs.stored_at)
    with pytest.raises(Problem):
        await house.sweep.sweep_once()
    house.now += WATCHED_SECONDS
    assert await house.sweep.sweep_once() == len(orphans)
    assert not orphans & house.blobs.stored_at.keys()
    assert house.blobs.noted == await house.database.read(store.newest_lead_id)


async def test_an_orphan_of_before_the_clock_was_put_back_is_found(house: House, monkeypatch):
    """The last round began where the clock then said. What is stored by the earlier clock sorts before that."""
    await house.rounds()
    monkeypatch.setattr("services.api.sweep.datetime", Yesterday)
    monkeypatch.setattr(Yesterday, "back", timedelta(days=1))
    an_hour_ago = Yesterday.now(UTC) - timedelta(seconds=GRACE_SECONDS + 60)
    house.blobs.stored_at[lowest_id(an_hour_ago)] = an_hour_ago
    assert await house.rounds(3) == 1


async def test_an_orphan_whose_upload_took_as_long_as_its_ticket_was_good_is_found(house: House):
    """Its id is as old as its ticket, while its bytes came just before that expired: after a round began there."""
    await house.rounds()
    stored_at = datetime.now(UTC) - timedelta(seconds=GRACE_SECONDS + 1)
    ticket_made_at = datetime.now(UTC) - timedelta(seconds=GRACE_SECONDS + TICKET_SECONDS + LEEWAY_SECONDS)
    house.blobs.stored_at[lowest_id(ticket_made_at)] = stored_at
    assert await house.rounds() == 1


class Yesterday(datetime):
    back = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - cls.back


async def test_what_could_not_be_removed_is_removed_the_next_time(house: House):
    house.blobs.add(age=timedelta(hours=2))
    await house.sweep.sweep_once()
    house.now += WATCHED_SECONDS
    house.blobs.is_away = True
    with pytest.raises(Problem):
        await house.sweep.sweep_once()
    house.blobs.is_away = False
    assert await house.sweep.sweep_once() == 1


async def test_beside_an_older_database_no_resume_is_swept_and_the_log_says_why(house: House, capsys):
    await house.rounds()
    newest = house.blobs.noted
    assert newest is not None
    gone = timedelta(hours=2)
    lost = house.blobs.add(age=gone)
    await house.database.write(lambda session: session.execute(delete(Lead).where(col(Lead.id) == newest)))
    house.sweep = house.restarted()
    assert await house.rounds(4) == 0
    assert lost in house.blobs.stored_at
    assert house.blobs.noted == newest
    said = capsys.readouterr().out
    assert said.count("leads seem to be missing") == 1
    assert newest in said


async def test_beside_another_database_no_resume_is_swept(house: House):
    for _ in range(4):
        house.blobs.add(age=timedelta(hours=2))
    assert await house.rounds(4) == 0
    await house.add_lead(house.blobs.add(age=timedelta()))
    assert await house.rounds() == 4
    assert house.blobs.noted == await house.database.read(store.newest_lead_id)
