"""What the embedded bus does with its file: who may read it, what is refused, what a broken disk comes to."""

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.bus.embedded import EmbeddedBus
from shared.bus.embedded import file as embedded_file
from shared.bus.protocol import BusUnavailable, PublishFailed
from tests.harness.embedded import QUEUE, child, embedded, execute, message, receive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "queue.db"


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_file, "LOCK_TIMEOUT_SECONDS", 0.1)


async def fill_disk(bus: EmbeddedBus) -> None:
    """From here on no page can be added, as on a full disk."""
    await bus._file.read(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchone())


async def free_disk(bus: EmbeddedBus) -> None:
    await bus._file.read(lambda connection: connection.execute("PRAGMA max_page_count = 1073741823").fetchone())


async def test_folder_and_files_are_for_their_owner_alone(path: Path) -> None:
    async with embedded(path) as bus:
        await bus.publish([message()])
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *path.parent.iterdir())}
    assert modes == {"data": 0o700, "queue.db": 0o600, "queue.db-wal": 0o600, "queue.db-shm": 0o600}


async def test_several_processes_worth_of_buses_may_create_the_file_at_once(path: Path) -> None:
    async def publish() -> int:
        async with embedded(path) as bus:
            await bus.publish([message()])
            await all_are_in.wait()
            return (await bus.stats(QUEUE)).ready

    all_are_in = asyncio.Barrier(8)
    assert await asyncio.gather(*(publish() for _ in range(8))) == [8] * 8


async def test_opening_and_closing_twice_is_harmless(path: Path) -> None:
    bus = embedded(path)
    await bus.open()
    await bus.open()
    await bus.publish([message()])
    await bus.close()
    await bus.close()
    async with bus:
        assert (await bus.stats(QUEUE)).ready == 1


async def test_a_settled_message_leaves_nothing_in_the_file(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 1) as deliveries:
        await bus.publish([message(b"ada@example.com" * 1000)])
        await (await receive(deliveries)).ack()
    assert b"ada@example.com" not in path.read_bytes()


async def test_the_file_does_not_grow_with_settled_messages(path: Path) -> None:
    sizes = []
    async with embedded(path) as bus, bus.consume(QUEUE, 200) as deliveries:
        for _ in range(12):
            await bus.publish([message(b"x" * 2000) for _ in range(200)])
            in_hand = [await receive(deliveries) for _ in range(200)]
            await asyncio.gather(*(delivery.ack() for delivery in in_hand))
            sizes.append(sum(each.stat().st_size for each in path.parent.iterdir()))
    assert path.stat().st_size < 200 * 2000 * 3
    assert sizes[-1] < 8_000_000


async def test_a_process_that_fails_without_closing_the_bus_ends(path: Path) -> None:
    async with child("fail", path) as failing:
        async with asyncio.timeout(5):
            assert await failing.process.wait() == 1


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 20, b"short"])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(BusUnavailable, match=r"LEADS_BROKER_URL.* is not a file of Leads"):
        await embedded(path).open()
    assert path.read_bytes() == content


async def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    execute(path, "CREATE TABLE lead (id TEXT)")
    before = path.read_bytes()
    with pytest.raises(BusUnavailable, match=r"LEADS_BROKER_URL.* is not a queue of Leads"):
        await embedded(path).open()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["leads.db"]


async def test_a_file_of_a_newer_leads_is_refused(path: Path) -> None:
    async with embedded(path):
        pass
    execute(path, "PRAGMA user_version = 99")
    with pytest.raises(BusUnavailable, match=r"LEADS_BROKER_URL.*newer Leads \(schema 99, this one knows 1\)"):
        await embedded(path).open()


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable, match=r"LEADS_BROKER_URL.* cannot be opened: check that it is a file"):
        await embedded(tmp_path).open()


async def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(BusUnavailable, match=r"LEADS_BROKER_URL.* cannot be reached"):
        await embedded(tmp_path / "data" / "queue.db").open()


async def test_a_file_that_may_only_be_read_is_told_as_such() -> None:
    folder = Path(tempfile.mkdtemp(prefix="leads-bus-"))  # tmp_path is closed to other users
    try:
        async with embedded(folder / "queue.db"):
            pass
        (folder / "queue.db").chmod(0o444)
        folder.chmod(0o555)
        async with child("publish-unprivileged", folder / "queue.db") as publisher:
            told = await publisher.said()
        assert "LEADS_BROKER_URL" in told
        assert "may only be read" in told
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.usefixtures("short_patience")
async def test_a_locked_file_fails_a_publish_and_the_next_one_works(path: Path) -> None:
    async with embedded(path) as bus:
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(PublishFailed, match=r"LEADS_BROKER_URL.* is kept locked") as caught:
            await bus.publish([message()])
        locker.close()
        await bus.publish([message()])
        assert caught.value.confirmed == frozenset()
        assert (await bus.stats(QUEUE)).ready == 1


@pytest.mark.usefixtures("short_patience")
async def test_an_ack_that_a_lock_kept_out_raises_and_the_message_comes_again(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 1) as deliveries:
        await bus.publish([message()])
        delivery = await receive(deliveries)
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        with capture_logs() as logs, pytest.raises(BusUnavailable, match="is kept locked"):
            await delivery.ack()
        assert [log["event"] for log in logs] == ["bus unavailable"]
        locker.close()
        again = await receive(deliveries)
        assert (again.message, again.redelivered) == (delivery.message, True)
        await again.ack()
        assert execute(path, "SELECT count(*) FROM message") == [(0,)]


@pytest.mark.usefixtures("short_patience")
async def test_consuming_may_begin_while_the_file_is_locked(path: Path) -> None:
    async with embedded(path) as bus:
        await bus.publish([message()])
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        async with bus.consume(QUEUE, 1) as deliveries:
            locker.close()
            await receive(deliveries)


async def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 1) as deliveries:
        await fill_disk(bus)
        with pytest.raises(PublishFailed, match=r"LEADS_BROKER_URL.* has no room left"):
            await bus.publish([message(b"x" * 1_000_000)])
        await free_disk(bus)
        await bus.publish([message(b"x" * 1_000_000)])
        await (await receive(deliveries)).ack()


async def test_a_file_deleted_in_use_is_noticed_and_made_anew(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 1) as deliveries:
        for each in tuple(path.parent.iterdir()):
            each.unlink()
        with pytest.raises(PublishFailed, match=r"LEADS_BROKER_URL.* was moved or deleted while in use"):
            await bus.publish([message()])
        kept = message()
        await bus.publish([kept])
        assert execute(path, "SELECT id FROM message") == [(kept.id,)]
        assert (await receive(deliveries)).message == kept


async def test_a_file_that_is_back_after_another_was_in_its_place_tells_that_it_was_given_nothing_meanwhile(path: Path):
    """As when a disk was unmounted, and is mounted again."""

    async def is_renewed(bus: EmbeddedBus) -> bool:
        async with bus.renewals(QUEUE) as renewed:
            return renewed

    async def use_what_is_there(bus: EmbeddedBus) -> None:
        with pytest.raises(PublishFailed, match="was moved or deleted while in use"):
            await bus.publish([message()])
        await bus.publish([message()])

    async with embedded(path) as bus:
        await is_renewed(bus)
        assert not await is_renewed(bus)
        away = path.parent.rename(path.parent.with_name("away"))
        await use_what_is_there(bus)
        assert await is_renewed(bus)
        path.parent.rename(path.parent.with_name("in its place"))
        away.rename(path.parent)
        await use_what_is_there(bus)
        assert await is_renewed(bus)


async def test_a_damaged_file_is_told_as_such(path: Path) -> None:
    async with embedded(path) as bus:
        await bus.publish([message(b"x" * 100_000)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    async with embedded(path) as bus:
        with pytest.raises(BusUnavailable, match=r"LEADS_BROKER_URL.* is damaged"):
            await bus.publish([message()])


async def test_what_is_executed_is_not_in_the_debug_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with embedded(path) as bus:
        await bus.publish([message(b"ada@example.com")])
    assert "executing" in caplog.text
    assert "ada@example.com" not in caplog.text
