"""The steps of a lead's way at which a room can be made to die, each with the place in the code where it is passed.

`crash_points` wraps the functions named here. `tests/unit/test_crash_points.py` fails when one of them is not there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.notifier.store import Move
from services.notifier.tables import EmailState
from services.storage.folder import INCOMING
from shared.bus.embedded import rows
from shared.bus.embedded.rows import Settlement
from shared.ids import is_id

EMBEDDED, RABBITMQ = "embedded", "rabbitmq"
MAILBOX, SENDGRID = "mailbox", "sendgrid"
FOLDER, BUCKET = "folder", "bucket"


class When(StrEnum):
    """Whether a step is passed before the function is called or after it returned."""

    BEFORE = "before"
    AFTER = "after"


def _always(*_: Any, **__: Any) -> bool:
    return True


@dataclass(frozen=True)
class Seam:
    """A function by the name under which its caller looks it up. `counts` says by its arguments which calls do."""

    module: str
    attribute: str
    when: When
    counts: Callable[..., bool] = _always


@dataclass(frozen=True)
class Step:
    """What has just happened when the room passes it: one seam, or one for each bus, way of mail or way in."""

    what: str
    seams: Sequence[Seam]
    only_with: str | None = None
    """The bus, the way of mail or the store of resumes that has this step; None where all do."""
    may_repeat: bool = False
    """Whether a mail may have left of which nothing but `sending` is written down."""
    must_repeat: bool = False
    """Whether it certainly has, and will come again: through SendGrid, as the mailbox keeps one file of each."""


def _before(module: str, attribute: str, counts: Callable[..., bool] = _always) -> Seam:
    return Seam(module, attribute, When.BEFORE, counts)


def _after(module: str, attribute: str, counts: Callable[..., bool] = _always) -> Seam:
    return Seam(module, attribute, When.AFTER, counts)


def _answers(method: str, path: str) -> Callable[..., bool]:
    """Counts the last piece of each answer to such a request."""

    def counts(cycle: Any, message: Any) -> bool:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        return is_last and cycle.scope["method"] == method and cycle.scope["path"].startswith(path)

    return counts


def _puts_a_blob(_bucket: Any, name: str, *_: Any, **__: Any) -> bool:
    return is_id(name)


def _puts_parts(_bucket: Any, name: str, *_: Any, **__: Any) -> bool:
    return name.startswith(INCOMING)


def _inserts(_connection: Any, *, work: Any, durable: bool) -> bool:
    del durable
    return getattr(work, "func", None) is rows.insert


def _moves_to(state: EmailState) -> Callable[..., bool]:
    def counts(_session: Any, moves: Sequence[Move]) -> bool:
        return any(move.state is state for move in moves)

    return counts


def _moves_one_to(state: EmailState) -> Callable[..., bool]:
    def counts(_delivery: Any, _email: Any, moved_to: EmailState, *_: Any, **__: Any) -> bool:
        return moved_to is state

    return counts


def _settles(statement: str) -> Callable[..., bool]:
    def counts(settlement: Settlement, *_: Any) -> bool:
        return settlement.statement == statement

    return counts


def _copies(*, of_dead: bool) -> Callable[..., bool]:
    def counts(delivery: Any, copy: Any) -> bool:
        return bool((copy.routing_key == delivery._queue.dead_letters) is of_dead)

    return counts


_SEND = ("uvicorn.protocols.http.httptools_impl", "RequestResponseCycle.send")
_EMBEDDED, _RABBIT = "shared.bus.embedded", "shared.bus.rabbitmq"
_DELIVERIES = ((f"{_EMBEDDED}.consumer", "EmbeddedDelivery"), (f"{_RABBIT}.delivery", "RabbitDelivery"))


def _settling(verb: str, when: When) -> list[Seam]:
    return [Seam(module, f"{delivery}.{verb}", when) for module, delivery in _DELIVERIES]


STORAGE = {
    "temp made": Step("the file is there, empty", [_before("services.storage.local", "write_all")], only_with=FOLDER),
    "temp written": Step("all bytes are in it", [_after("services.storage.local", "write_all")], only_with=FOLDER),
    "temp synced": Step(
        "the bytes are on the disk",
        [_after("services.storage.local", "os.fsync"), _after("services.storage.local", "sync_or_remove")],
        only_with=FOLDER,
    ),
    "named": Step("the blob has its name", [_after("services.storage.local", "os.link")], only_with=FOLDER),
    "folder synced": Step(
        "the name is on the disk", [_after("services.storage.folder", "FolderSync.wait")], only_with=FOLDER
    ),
    "body held": Step(
        "all bytes have come, none were sent on",
        [_before("services.storage.objects", "obstore.put_async", _puts_a_blob)],
        only_with=BUCKET,
    ),
    "object put": Step(
        "the bucket keeps the blob",
        [_after("services.storage.objects", "obstore.put_async", _puts_a_blob)],
        only_with=BUCKET,
    ),
    "answer made": Step(
        "nothing of it was sent",
        [
            _after("services.storage.routes", "BlobRoutes.put"),
            _after("services.storage.group_route", "GroupRoute.put_group"),
        ],
    ),
    "answered": Step("the api has its receipt", [_after(*_SEND, counts=_answers("PUT", "/blobs"))]),
}

LONG_INTO_A_BUCKET = {
    "parts put": Step(
        "the bucket keeps the bytes under a name of their own",
        [_after("services.storage.objects", "obstore.put_async", _puts_parts)],
        only_with=BUCKET,
    ),
    "copied": Step(
        "the blob has its name, and the other is still there",
        [_after("services.storage.objects", "obstore.copy_async")],
        only_with=BUCKET,
    ),
}
"""Passed only by a body of more than one part."""

INTAKE = {
    "blob stored": Step("the storage answered", [_after("services.api.storage_client", "StorageClient.put")]),
    "row written": Step("lead and event, uncommitted", [_after("services.api.store", "insert_leads")]),
    "row committed": Step("nobody was told", [_before("services.api.intake", "Intake._kept")]),
    "201 made": Step("nothing of it was sent", [_after("services.api.routes", "_created")]),
    "201 sent": Step("the client has it", [_after(*_SEND, counts=_answers("POST", "/leads"))]),
}

RELAY = {
    "events read": Step(
        "nothing was published",
        [_before(f"{_EMBEDDED}.bus", "EmbeddedBus.publish"), _before(f"{_RABBIT}.bus", "RabbitBus.publish")],
    ),
    "published, uncommitted": Step(
        "the events are in the queue's file", [_after(f"{_EMBEDDED}.rows", "insert")], only_with=EMBEDDED
    ),
    "published": Step(
        "the bus keeps the events; nobody has read its confirmation",
        [
            _after(f"{_EMBEDDED}.file", "_in_transaction", _inserts),
            _before("aiormq.channel", "Channel._on_confirm_frame"),
        ],
    ),
    "confirmed": Step("nothing is marked", [_before("shared.relay", "Relay._mark")]),
    "mark written": Step("uncommitted", [_after("shared.outbox", "mark_published")]),
    "marked": Step("the events are done with", [_after("shared.relay", "Relay._mark")]),
}

SENDING = {
    "consumed": Step("nothing was done with the event", [_before("shared.worker", "Worker._handle")]),
    "plan written": Step("both e-mails, uncommitted", [_after("services.notifier.store", "plan")]),
    "planned": Step("both e-mails are pending", [_after("services.notifier.delivery", "Delivery._planned")]),
    "sending written": Step("uncommitted", [_after("services.notifier.store", "move", _moves_to(EmailState.SENDING))]),
    "sending committed": Step(
        "no request was made",
        [_after("services.notifier.delivery", "Delivery._move", _moves_one_to(EmailState.SENDING))],
        may_repeat=True,
    ),
    "mail file written": Step(
        "it has no name yet", [_before("services.notifier.mailbox", "os.replace")], only_with=MAILBOX, may_repeat=True
    ),
    "mail request sent": Step(
        "nobody has read an answer",
        [
            _after("services.notifier.mailbox", "os.replace"),
            _after("services.notifier.email", "_Body.write_with_length"),
        ],
        may_repeat=True,
    ),
    "mail accepted": Step(
        "the answer is there", [_before("services.notifier.email", "_read")], only_with=SENDGRID, must_repeat=True
    ),
    "answer read": Step(
        "nothing of it is written", [_before("services.notifier.delivery", "Delivery._sent")], must_repeat=True
    ),
    "sent written": Step(
        "uncommitted", [_after("services.notifier.store", "move", _moves_to(EmailState.SENT))], must_repeat=True
    ),
    "sent committed": Step(
        "of one e-mail: the other is under way",
        [_after("services.notifier.delivery", "Delivery._sent")],
        may_repeat=True,
    ),
    "done": Step("both are sent, nothing is acked", _settling("ack", When.BEFORE)),
    "ack written": Step(
        "uncommitted", [_after(f"{_EMBEDDED}.rows", "Settlement.apply", _settles(rows.ACK))], only_with=EMBEDDED
    ),
    "acked": Step("the bus has forgotten the event", _settling("ack", When.AFTER)),
}

SETTING_ASIDE = {
    "retry decided": Step("no copy is made", _settling("retry", When.BEFORE)),
    "retry written": Step(
        "a copy waits in its level, and the original is in hand; in one transaction, if embedded",
        [
            _after(f"{_EMBEDDED}.rows", "Settlement.apply", _settles(rows.RETRY)),
            _after(f"{_RABBIT}.delivery", "RabbitDelivery._keep", _copies(of_dead=False)),
        ],
    ),
    "retry settled": Step("only the copy is left", _settling("retry", When.AFTER)),
    "dead letter decided": Step("no copy is made", _settling("dead_letter", When.BEFORE)),
    "dead letter written": Step(
        "a copy is set aside, and the original is in hand; in one transaction, if embedded",
        [
            _after(f"{_EMBEDDED}.rows", "Settlement.apply", _settles(rows.BURY)),
            _after(f"{_RABBIT}.delivery", "RabbitDelivery._keep", _copies(of_dead=True)),
        ],
    ),
    "dead letter settled": Step("only the copy is left", _settling("dead_letter", When.AFTER)),
}
"""Passed only when a mail fails."""

STEPS = {"storage": STORAGE | LONG_INTO_A_BUCKET, "api": INTAKE | RELAY, "notifier": SENDING | SETTING_ASIDE}
"""By room. The relay lives in the api."""
