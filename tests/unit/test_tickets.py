"""A ticket is good for one upload, for a while, and for nothing else; nothing else is good as a ticket."""

from datetime import UTC, datetime, timedelta

import pytest

from services.api.settings import ApiSettings
from services.storage.settings import StorageSettings
from shared.ids import new_id
from shared.settings import SettingsError, load
from shared.tickets import TICKET_SECONDS, UNCLAIMED_SECONDS, Tickets, is_expired
from shared.tokens import LEEWAY_SECONDS, SERVICE, STAFF, UPLOAD, TokenRefused, Tokens

SECRET = "a-service-secret-of-the-tests-only"
BLOB = new_id()


def issued(**said: object) -> str:
    return Tickets(SECRET).issue(BLOB, **{"filename": "cv.pdf", "size_bytes": 1000, **said})  # type: ignore[arg-type]


def test_a_ticket_says_what_it_is_good_for_and_until_when():
    ticket = Tickets(SECRET).read(issued(filename="履歴書 🙂.pdf"))
    assert (ticket.blob_id, ticket.filename, ticket.size_bytes) == (BLOB, "履歴書 🙂.pdf", 1000)
    left = ticket.expires_at - datetime.now(UTC)
    assert timedelta(seconds=TICKET_SECONDS - 5) < left <= timedelta(seconds=TICKET_SECONDS)
    assert not is_expired(ticket)


@pytest.mark.parametrize("audience", [STAFF, SERVICE, UPLOAD])
def test_no_token_made_with_the_service_secret_itself_is_a_ticket(audience):
    token = Tokens(SECRET, audience).issue(BLOB, 60, filename="cv.pdf", size_bytes=1000)
    with pytest.raises(TokenRefused):
        Tickets(SECRET).read(token)


@pytest.mark.parametrize("audience", [STAFF, SERVICE, UPLOAD])
def test_a_ticket_is_no_token_of_another_kind_not_even_for_who_has_that_key(audience):
    with pytest.raises(TokenRefused):
        Tokens(SECRET, audience).verify(issued())


def test_a_ticket_of_another_deployment_or_changed_by_a_letter_is_none():
    head, claims, signature = issued().split(".")
    other = Tickets(SECRET[::-1]).issue(BLOB, filename="cv.pdf", size_bytes=1000)
    for forged in (other, f"{head}.{claims[:-2]}AA.{signature}", f"{head}.{claims}.", "", "x", "a.b.c"):
        with pytest.raises(TokenRefused):
            Tickets(SECRET).read(forged, even_expired=True)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("../../etc/passwd", {"filename": "cv.pdf", "size_bytes": 1}),
        (BLOB.upper(), {"filename": "cv.pdf", "size_bytes": 1}),
        (BLOB, {"filename": "cv.pdf"}),
        (BLOB, {"filename": "cv.pdf", "size_bytes": "1"}),
        (BLOB, {"size_bytes": 1}),
    ],
)
def test_a_ticket_that_does_not_say_what_it_is_good_for_is_none(subject, said):
    tickets = Tickets(SECRET)
    with pytest.raises(TokenRefused, match="good for"):
        tickets.read(tickets._tokens.issue(subject, 60, **said))


def test_an_old_ticket_is_good_for_nothing_but_to_know_what_it_was_for():
    tickets = Tickets(SECRET)
    ahead = -(TICKET_SECONDS + LEEWAY_SECONDS + 1)
    old = tickets._tokens.issue(BLOB, TICKET_SECONDS, ahead_seconds=ahead, filename="cv.pdf", size_bytes=1000)
    with pytest.raises(TokenRefused):
        tickets.read(old)
    known = tickets.read(old, even_expired=True)
    assert known.blob_id == BLOB
    assert is_expired(known)


def test_a_resume_may_wait_for_its_lead_for_as_long_as_any_ticket_for_it_is_good():
    public = "https://uploads.example.com/"
    assert load(ApiSettings, orphan_grace_seconds=2).unclaimed_seconds == 2
    assert load(ApiSettings, orphan_grace_seconds=2, storage_public_url=public).unclaimed_seconds == UNCLAIMED_SECONDS
    assert load(ApiSettings, orphan_grace_seconds=9000, storage_public_url=public).unclaimed_seconds == 9000
    assert UNCLAIMED_SECONDS > TICKET_SECONDS + LEEWAY_SECONDS


@pytest.mark.parametrize("url", ["uploads.example.com", "ftp://uploads.example.com", "https://", "https://x/?a=b"])
def test_a_public_address_that_is_none_ends_the_start_with_one_line(url):
    with pytest.raises(SettingsError, match="LEADS_STORAGE_PUBLIC_URL"):
        load(StorageSettings, storage_public_url=url)
