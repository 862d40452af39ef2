"""The check of what is on the disk before a 201 sees each wrong order, each missing step, and nothing in a good run."""

import pytest

from tests.chaos.write_order import Where, faults, look
from tests.harness.strace import parse

LEAD, BLOB, OTHER = (f"01a2132b-224e-7584-bae5-9e71a2714c2{digit}" for digit in "123")
WHERE = Where("/data/resumes", "/data/leads.db-wal", storage_port=8001, api_port=8000)
TEMP, WAL = f"15</data/resumes/.incoming/{BLOB}>", "14</data/leads.db-wal>"
STORED = "TCP:[127.0.0.1:8001->127.0.0.1:40000]"
ANSWERED = "TCP:[127.0.0.1:8000->127.0.0.1:50000]"

WRITE = [f'write({TEMP}, "%PDF", 4) = 4']
FSYNC = [f"fsync({TEMP}) = 0"]
LINK = [f'link("/data/resumes/.incoming/{BLOB}", "/data/resumes/{BLOB}") = 0']
FOLDER = ["fsync(16</data/resumes>) = 0"]
STORAGE_SAYS = [
    f'write(17<{STORED}>, "HTTP/1.1 201 Created\\r\\n", 22) = 22',
    f'write(17<{STORED}>, "{{\\"id\\":\\"{BLOB}\\"}}", 50) = 50',
]
FRAME = [
    rf'pwrite64({WAL}, "\0\0\0\4\0\0\0\0\371\31>\254\341\274\351:\276\30\214%\213\303D\335", 24, 32) = 24',
    rf'pwrite64({WAL}, "\r\0\0\000{LEAD}\0\0", 4096, 56) = 4096',
]
LAST_FRAME = [
    rf'pwrite64({WAL}, "\0\0\0\4\0\0\0\26\371\31>\254\341\274\351:\276\30\214%\213\303D\335", 24, 4152) = 24',
    rf'pwrite64({WAL}, "\r\0\0\0\0", 4096, 4176) = 4096',
]
LOG_SYNC = [f"fdatasync({WAL}) = 0"]
API_SAYS = [
    rf'writev(18<{ANSWERED}>, [{{iov_base="HTTP/1.1 201 Created\r\nlocation: /leads/{LEAD}\r\n", iov_len=9}}], 1) = 9',
]
GOOD = [WRITE, FSYNC, LINK, FOLDER, STORAGE_SAYS, FRAME, LAST_FRAME, LOG_SYNC, API_SAYS]


def seen_in(story: list[list[str]]):
    """What is seen when all of it happens on one thread; a line that names its thread itself is left as it is."""
    calls = [call for step in story for call in step]
    return look(parse(call if call[0].isdigit() else f"1 {n}.5 {call}" for n, call in enumerate(calls)), WHERE)


def faults_of(story: list[list[str]]) -> list[str]:
    return faults(seen_in(story), {LEAD: BLOB})


def test_a_good_order_has_no_fault():
    assert faults_of(GOOD) == []


@pytest.mark.parametrize("first", range(len(GOOD) - 1))
def test_two_steps_the_other_way_round_are_seen(first: int):
    story = [*GOOD[:first], GOOD[first + 1], GOOD[first], *GOOD[first + 2 :]]
    assert faults_of(story) != []


@pytest.mark.parametrize("missing", range(len(GOOD)))
def test_a_step_that_did_not_happen_is_seen(missing: int):
    assert "was not seen" in " ".join(faults_of([*GOOD[:missing], *GOOD[missing + 1 :]]))


@pytest.mark.parametrize("step", [FSYNC, LINK, FOLDER, LOG_SYNC], ids=lambda step: step[0].partition("(")[0])
def test_a_step_that_the_kernel_refused_did_not_happen(step: list[str]):
    refused = [step[0].replace(" = 0", " = -1 EIO (Input/output error)")]
    assert faults_of([refused if one is step else one for one in GOOD]) != []


def spread(step: list[str]) -> tuple[list[str], list[str]]:
    """The begin and the end of a call on another thread, for something to happen in between."""
    return (
        [f"2 1.5 {step[0].replace(') = 0', ' <unfinished ...>')}"],
        [f"2 1.6 <... {step[0].partition('(')[0]} resumed>) = 0"],
    )


@pytest.mark.parametrize(("sync", "what"), [(FOLDER, LINK), (LOG_SYNC, LAST_FRAME)])
def test_a_sync_that_was_running_already_may_have_missed_it_and_does_not_count(sync, what):
    begin, end = spread(sync)
    story = [one for one in GOOD if one is not sync]
    at = story.index(what)
    assert faults_of([*story[:at], begin, what, end, *story[at + 1 :]]) != []
    assert faults_of([*story[: at + 1], begin, end, *story[at + 1 :]]) == []


@pytest.mark.parametrize(("sync", "answer"), [(FSYNC, LINK), (FOLDER, STORAGE_SAYS), (LOG_SYNC, API_SAYS)])
def test_a_sync_that_has_not_ended_when_the_next_step_is_taken_is_too_late(sync, answer):
    begin, end = spread(sync)
    story = [begin if one is sync else one for one in GOOD]
    at = story.index(answer)
    assert faults_of([*story[: at + 1], end, *story[at + 1 :]]) != []
    assert faults_of([*story[:at], end, *story[at:]]) == []


def test_a_shared_sync_serves_all_who_came_before_it_began():
    others = [[line.replace(BLOB, OTHER) for line in step] for step in (WRITE, FSYNC, LINK)]
    seen = seen_in([*GOOD[:3], *others, *GOOD[3:]])
    assert seen.named.keys() == {BLOB, OTHER}
    assert faults(seen, {LEAD: BLOB}) == []


def test_a_commit_at_the_begin_of_a_log_is_known_as_one():
    assert seen_in(GOOD).began_a_log(LEAD)
    later = [[line.replace("24, 32)", "24, 8272)") for line in step] for step in GOOD]
    assert not seen_in(later).began_a_log(LEAD)
