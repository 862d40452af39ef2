"""A group of short blobs as the body of a request: it is read as it was written, and nothing else is read as one."""

import json
from dataclasses import replace

import pytest

from shared import blob_group
from shared.blob_group import BLOB_MAX_BYTES, MAX_BLOBS, ShortBlob
from shared.ids import new_id


def blob(body: bytes = b"%PDF-1.7", **other: str | None) -> ShortBlob:
    return ShortBlob(**{"id": new_id(), "body": body, "disposition": "attachment", "correlation_id": None, **other})


def said(**changed: object) -> dict[str, object]:
    return {"id": new_id(), "size_bytes": 3, "disposition": "attachment", "correlation_id": None, **changed}


def group(*line: object, rest: bytes = b"abc") -> bytes:
    return json.dumps(line).encode() + b"\n" + rest


def test_a_group_is_read_as_it_was_written():
    blobs = [
        blob(b"\n"),
        blob(bytes(range(256)) * 512, disposition="attachment; filename*=UTF-8''cv.pdf"),
        blob(b"[{}]\n", correlation_id=new_id()),
    ]
    assert blob_group.read(blob_group.written(blobs)) == blobs


@pytest.mark.parametrize("size_bytes", [1, 1_000, 64 * 1024, BLOB_MAX_BYTES])
def test_what_weighs_no_more_than_a_group_fits_into_one(size_bytes: int):
    longest = {"disposition": "attachment; filename*=UTF-8''" + "%" * 1000, "correlation_id": "x" * 64}
    one = blob(b"x" * size_bytes, **longest)
    count = blob_group.GROUP_MAX_BYTES // blob_group.weight(one)
    assert 1 < count <= MAX_BLOBS
    blobs = [replace(one, id=new_id()) for _ in range(count)]
    written = blob_group.written(blobs)
    assert len(written) <= blob_group.GROUP_MAX_BYTES
    assert blob_group.read(written) == blobs


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"\nabc",
        b"not json\nabc",
        b"\xff\xfe\nabc",
        b"[" * 5_000 + b"\nabc",
        b"x" * blob_group.GROUP_MAX_BYTES,
        group(rest=b""),
        b'{"id": 1}\nabc',
        group(said(), rest=b"ab"),
        group(said(), rest=b"abcd"),
        group(said(size_bytes=0), rest=b""),
        group(said(size_bytes=-1)),
        group(said(size_bytes=3.0)),
        group(said(size_bytes="3")),
        group(said(size_bytes=10**400)),
        group(said(size_bytes=BLOB_MAX_BYTES + 1), rest=b"x" * (BLOB_MAX_BYTES + 1)),
        group(said(id="../../etc/passwd")),
        group(said(id=new_id().upper())),
        group(said(id=None)),
        group(said(disposition=None)),
        group(said(correlation_id=7)),
        group(said(correlation_id="a\nb\x1b[31m")),
        group(said(correlation_id="x" * 5_000)),
        group(said(size_bytes=True), rest=b"a"),
        group({"id": new_id(), "size_bytes": 3}),
        group([], rest=b""),
        group(*[said(id="01890000-0000-7000-8000-000000000000")] * 2, rest=b"abcabc"),
        group(*[said() for _ in range(MAX_BLOBS + 1)], rest=b"abc" * (MAX_BLOBS + 1)),
    ],
    ids=lambda body: repr(body[:60]),
)
def test_what_is_no_group_is_refused(body: bytes):
    with pytest.raises(ValueError, match=r"."):
        blob_group.read(body)
