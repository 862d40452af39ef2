"""What strace writes is read as it was meant: which call, on what, and what was before what."""

from tests.harness.strace import parse

CANNED = r"""
13693 1795617923.612917 write(14<TCP:[127.0.0.1:12838->127.0.0.1:33254]>, "HTTP/1.1 201 Created\r\n) = 7 <0.1>"..., 289) = 289 <0.000027>
14412 1795617923.871477 fsync(15</data/resumes/.incoming/01a2> <unfinished ...>
14175 1795617923.874211 write(10<anon_inode:[eventfd]>, "\1\0\0\0\0\0\0\0", 8) = 8 <0.000014>
14173 1795617923.875634 fdatasync(19</data/queue.db-wal> <unfinished ...>
14412 1795617923.905138 <... fsync resumed>) = 0 <0.033631>
14412 1795617923.909147 link("/data/resumes/.incoming/01a2", "/data/resumes/01a2") = -1 EEXIST (File exists) <0.000163>
14173 1795617923.912000 <... fdatasync resumed>) = 0 <0.037000>
14173 1795617923.913000 pwrite64(19</data/queue.db-wal>, " <unfinished ...>", 17, 32 <unfinished ...>
14173 1795617923.913100 <... pwrite64 resumed>) = 17 <0.000100>
14173 1795617923.914000 fsync(19</data/queue.db-wal> <detached ...>
14412 1795617923.915000 fsync(15</data/resumes> <unfinished ...>
14412 1795617923.916000 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
14412 1795617923.917000 +++ exited with 0 +++
""".strip().splitlines()  # noqa: E501


def test_each_call_that_ended_is_told_once_with_what_it_was_about_and_how_it_ended():
    found = [(call.name, call.file, call.result) for call in parse(CANNED)]
    assert found == [
        ("write", "TCP:[127.0.0.1:12838->127.0.0.1:33254]", "289"),
        ("write", "anon_inode:[eventfd]", "8"),
        ("fsync", "/data/resumes/.incoming/01a2", "0"),
        ("link", "", "-1 EEXIST (File exists)"),
        ("fdatasync", "/data/queue.db-wal", "0"),
        ("pwrite64", "/data/queue.db-wal", "17"),
    ]


def test_a_call_that_others_came_between_began_at_its_first_line_and_ended_at_its_last():
    calls = {call.name: call for call in parse(CANNED) if "queue" not in call.file}
    assert (calls["fsync"].began, calls["fsync"].ended) == (1, 4)
    assert (calls["link"].began, calls["link"].ended) == (5, 5)
    assert (calls["fsync"].at, calls["fsync"].seconds, calls["fsync"].thread) == (1795617923.871477, 0.033631, 14412)
    assert (calls["link"].failed, calls["fsync"].failed) == (True, False)


def test_text_that_looks_like_the_end_of_a_line_is_text():
    calls = list(parse(CANNED))
    assert calls[0].arguments.endswith('"HTTP/1.1 201 Created\\r\\n) = 7 <0.1>"..., 289')
    assert calls[-1].arguments == '19</data/queue.db-wal>, " <unfinished ...>", 17, 32'


def test_what_never_ended_is_not_told():
    assert [call.name for call in parse(CANNED[9:])] == []
