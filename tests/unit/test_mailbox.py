"""The mailbox folder: one whole, private, readable file for each e-mail, however often it is sent."""

import asyncio
import errno
import os
import re
import stat
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage as MimeMessage
from email.policy import default
from pathlib import Path

import pytest

from services.notifier import mailbox
from services.notifier.email import EmailMessage, MailRejected, MailUnavailable, Sender
from services.notifier.mailbox import MailboxTransport, as_eml
from services.notifier.transport import transport_for
from shared.ids import new_id

SENDER = Sender("leads@example.com", "Leads, Inc.", "office@example.com")


def a_message(**changes: object) -> EmailMessage:
    given = {
        "id": new_id(),
        "to": ("ann@example.org",),
        "to_name": "محمد O'Brien 😀",
        "subject": "Thank you",
        "html": "<p>سلام</p>\n",
        "text": "سلام, Ann 😀\n",
        "custom_args": {"lead_id": "l-1", "event_id": "e-1"},
        "categories": ("prospect",),
    }
    return EmailMessage(**{**given, **changes})


def read(path: Path) -> MimeMessage:
    return message_from_bytes(path.read_bytes(), policy=default)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "not there yet" / "mailbox"


@pytest.fixture
def transport(folder: Path) -> MailboxTransport:
    return MailboxTransport(folder, sender=SENDER)


async def test_an_email_is_a_file_that_a_mail_program_reads(folder, transport):
    message = a_message(to=("ann@example.org", "bob@example.org"))
    accepted = await transport.send(message)
    mime = read(folder / accepted.message_id)
    assert [address.addr_spec for address in mime["To"].addresses] == ["ann@example.org", "bob@example.org"]
    assert mime["To"].addresses[0].display_name == "محمد O'Brien 😀"
    assert str(mime["From"]) == '"Leads Inc." <leads@example.com>'
    assert str(mime["Reply-To"]) == "office@example.com"
    assert mime["Subject"] == "Thank you"
    assert mime["Message-ID"] == f"<{message.id}@example.com>"
    assert mime["Auto-Submitted"] == "auto-generated"
    assert (mime["X-Leads-Email-Id"], mime["X-Leads-Lead-Id"], mime["X-Leads-Event-Id"]) == (message.id, "l-1", "e-1")
    assert abs(datetime.now(UTC) - mime["Date"].datetime).total_seconds() < 5
    assert mime.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mime.iter_parts()] == ["text/plain", "text/html"]
    assert mime.get_body(("plain",)).get_content().splitlines() == message.text.splitlines()
    assert mime.get_body(("html",)).get_content().splitlines() == message.html.splitlines()


async def test_a_person_can_read_the_file_as_it_is(folder, transport):
    accepted = await transport.send(a_message())
    assert "سلام, Ann 😀" in (folder / accepted.message_id).read_text()


async def test_lines_that_are_too_long_for_mail_are_encoded(folder, transport):
    message = a_message(html="<p>" + "ä" * 600 + "</p>")
    path = folder / (await transport.send(message)).message_id
    assert max(map(len, path.read_bytes().splitlines())) <= 998
    assert read(path).get_body(("html",)).get_content().strip() == message.html


async def test_only_the_owner_may_read(folder, transport):
    accepted = await transport.send(a_message())
    assert (folder / accepted.message_id).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_names_sort_by_time_and_say_the_kind(folder, transport):
    names = [
        (await transport.send(a_message(categories=(kind,)))).message_id for kind in ("staff", "prospect", "staff")
    ]
    assert sorted(names) == sorted(names, key=lambda name: name[-40:])
    assert "Z-staff-" in names[0]
    assert "Z-prospect-" in names[1]


def test_the_stamp_is_the_instant_in_the_id():
    message = a_message(id="0199abcd-ef01-7000-8000-000000000001")
    at = datetime.fromtimestamp(0x0199ABCDEF01 / 1000, UTC)
    stamp = f"{at:%Y%m%dT%H%M%S}.{0x0199ABCDEF01 % 1000:03}Z"
    assert mailbox.file_name(message) == f"{stamp}-prospect-0199abcd-ef01-7000-8000-000000000001.eml"


async def test_the_same_email_sent_twice_is_one_file(folder, transport):
    message = a_message()
    first = await transport.send(message)
    assert await transport.send(message) == first
    assert files(folder) == [folder / first.message_id]


async def test_the_same_email_sent_at_once_by_many_is_one_whole_file(folder, transport):
    message = a_message(text="x" * 200_000)
    await asyncio.gather(*(transport.send(message) for _ in range(8)))
    (path,) = files(folder)
    assert read(path).get_body(("plain",)).get_content().strip() == message.text


@pytest.mark.parametrize("email_id", ["../../etc/passwd", "", "a/b", "5b2f4b1c-0000-4000-8000-000000000000"])
async def test_only_a_uuid7_names_a_file(tmp_path, email_id):
    with pytest.raises(MailRejected):
        await MailboxTransport(tmp_path, sender=SENDER).send(a_message(id=email_id))
    assert list(tmp_path.iterdir()) == []


async def test_a_category_cannot_leave_the_folder(folder, transport):
    accepted = await transport.send(a_message(categories=("../../X y" + "z" * 300,)))
    assert (folder / accepted.message_id).exists()
    assert "-x-y" in accepted.message_id


async def test_a_name_or_subject_cannot_add_a_header(folder, transport):
    hostile = "Ann\r\nBcc: x@evil.test\u2028, <y@evil.test>;"
    accepted = await transport.send(a_message(to_name=hostile, subject=hostile, custom_args={"a\r\nBcc": hostile}))
    mime = read(folder / accepted.message_id)
    assert mime["Bcc"] is None
    assert [address.addr_spec for address in mime["To"].addresses] == ["ann@example.org"]


@pytest.mark.parametrize(
    "address", ["", "a b@c.test", "a@b.test, c@d.test", "a..b@c.test", "a@b.test\r\nBcc: x@y.test"]
)
async def test_an_address_that_is_none_is_rejected_for_good(folder, transport, address):
    with pytest.raises(MailRejected) as caught:
        await transport.send(a_message(to=("ann@example.org", address)))
    assert "@" not in caught.value.reason
    assert not folder.exists()


async def test_what_a_killed_notifier_had_half_written_goes_when_the_email_is_sent_again(folder, transport):
    message = a_message()
    accepted = await transport.send(message)
    left, anothers = (folder / ".incoming" / f"{name}.0a1b2c3d" for name in (accepted.message_id, "other.eml"))
    for path in (left, anothers):
        path.write_text("half of")
        os.utime(path, (0, 0))
    await transport.send(message)
    assert set(files(folder)) == {folder / accepted.message_id, anothers}


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(MailUnavailable, match=r"LEADS_MAIL_URL.*(exists|Not a directory)"):
        await MailboxTransport(blocked, sender=SENDER).send(a_message())


@pytest.mark.parametrize("step", ["fsync", "replace"])
async def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(folder, transport, monkeypatch, step):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(MailUnavailable, match=r"LEADS_MAIL_URL.*No space left on device"):
        await transport.send(a_message())
    assert files(folder) == []


async def test_a_file_that_is_visible_was_synced_before_and_its_folder_after(folder, transport, monkeypatch):
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(*paths: str) -> None:
        steps.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    await transport.send(a_message())
    assert steps == ["file", "rename", "folder"]


async def test_a_file_url_may_hold_spaces(tmp_path):
    transport = transport_for(f"file://{tmp_path}/a%20b", sender=SENDER)
    await transport.send(a_message())
    await transport.close()
    assert len(files(tmp_path / "a b")) == 1


async def test_an_address_with_letters_outside_ascii_is_written_as_it_is(folder, transport):
    accepted = await transport.send(a_message(to=("用户@xn--fsqu00a.xn--55qx5d",), to_name=None))
    assert "To: 用户@xn--fsqu00a.xn--55qx5d" in (folder / accepted.message_id).read_text()


@pytest.mark.parametrize("address", ["ann@example.com", "jos\u00e9@example.com"])
@pytest.mark.parametrize(
    "text",
    ids=["short", "latin", "chinese", "long"],
    argvalues=["Ann", "\u00dcn\u00efc\u00f6d\u00e9 " * 12, "\u674e\u96f7" * 40, "long " * 40],
)
def test_every_line_ends_as_mail_does_and_is_not_too_long(address, text):
    content = as_eml(a_message(to=(address,), to_name=text, subject=text), SENDER)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_what_looks_like_an_encoded_word_is_shown_as_it_was_typed():
    typed = "=?utf-8?q?=0D=0ABcc=3A_x=40evil=2Etest?="
    mime = message_from_bytes(as_eml(a_message(to_name=typed, subject=typed), SENDER), policy=default)
    assert mime["subject"] == typed
    assert mime["to"].addresses[0].display_name == typed
    assert "Bcc" not in mime
