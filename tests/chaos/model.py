"""What Leads must be like after any sequence of calls and faults, as simply as it can be said. Pure: asks nothing.

Where an answer never came the model holds both: the form is `unanswered` until a look finds its lead, or until the
api that had it in hand is gone. The same goes for a move of the staff (`moving`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from tests.chaos.checker import Attempt

PENDING, REACHED_OUT = "PENDING", "REACHED_OUT"


class Said(StrEnum):
    """What a form is answered with while nothing is broken."""

    KEPT = "201"
    REPLAYED = "201 again"
    DUPLICATE = "400 duplicate-email"
    KEY_REUSED = "422 idempotency-key-reused"


@dataclass(frozen=True)
class Form:
    """What a person sends, and under which key."""

    last_name: str
    email: str
    resume: bytes = field(repr=False)
    key: str | None = None

    @property
    def address(self) -> str:
        """What makes two people one."""
        return self.email.casefold()

    @property
    def facts(self) -> tuple[str, str, str]:
        """What a lead keeps of it."""
        return self.last_name, self.email, sha256(self.resume).hexdigest()

    def touches(self, other: "Form") -> bool:
        """Whether only one of the two can become a lead."""
        return self.address == other.address or (self.key is not None and self.key == other.key)


@dataclass(frozen=True)
class Row:
    """A lead as the database has it."""

    id: str
    last_name: str
    email: str
    sha256: str
    state: str
    version: int
    blob: str


@dataclass
class Lead:
    """A lead as the model has it."""

    id: str
    form: Form
    state: str = PENDING
    version: int = 1
    is_moving: bool = False
    """Somebody asked for REACHED_OUT and was not answered."""

    def move(self) -> None:
        """It was moved for certain."""
        self.state, self.version, self.is_moving = REACHED_OUT, self.version + 1, False


class Model:
    """The leads that there are, in the order in which they came to be known."""

    def __init__(self) -> None:
        self.leads: list[Lead] = []
        self.unanswered: list[Form] = []

    def answers(self, form: Form) -> set[Said]:
        """What `form` may be answered with: one thing, unless an unanswered one decides it."""
        kept = [lead.form for lead in self.leads]
        deciding = [other for other in self.unanswered if other.touches(form)]
        return {_judge(form, kept), *(_judge(form, [*kept, other]) for other in deciding)}

    def keep(self, lead_id: str, form: Form) -> None:
        """There is a lead of this form. Unanswered ones that it rules out can become none any more."""
        if lead_id not in (lead.id for lead in self.leads):
            self.leads.append(Lead(lead_id, form))
        self.unanswered = [other for other in self.unanswered if not other.touches(form)]

    def learn(self, rows: Iterable[Row]) -> None:
        """Settle by a look what no answer told."""
        known = {lead.id: lead for lead in self.leads}
        for row in rows:
            lead = known.get(row.id)
            if lead is not None and lead.is_moving and row.state == REACHED_OUT:
                lead.move()
            forms = [form for form in self.unanswered if form.facts == (row.last_name, row.email, row.sha256)]
            if lead is None and forms:
                self.keep(row.id, forms[0])

    def api_is_gone(self) -> None:
        """What it had in hand and was not found will never come."""
        self.unanswered.clear()
        for lead in self.leads:
            lead.is_moving = False

    def disagreements(self, rows: Iterable[Row]) -> list[str]:
        """Where the database differs from what must be."""
        found = {row.id: row for row in rows}
        wanted = {lead.id: lead for lead in self.leads}
        return [
            *(f"lost: {wanted[id_]}" for id_ in wanted.keys() - found.keys()),
            *(f"nobody was told of {found[id_]}" for id_ in found.keys() - wanted.keys()),
            *(
                f"{found[id_]} is not {wanted[id_]}"
                for id_ in wanted.keys() & found.keys()
                if not _same(wanted, found, id_)
            ),
        ]

    def ledger(self) -> list[Attempt]:
        """What clients know to be kept, as the checker reads it."""
        return [Attempt(lead.form.email, lead.form.facts[-1], 201, lead.id, 0.0) for lead in self.leads]


def _judge(form: Form, kept: Iterable[Form]) -> Said:
    """The key is looked at before the address: a repeated request is no duplicate."""
    forms = list(kept)
    for other in forms:
        if form.key is not None and form.key == other.key:
            return Said.REPLAYED if form.facts == other.facts else Said.KEY_REUSED
    return Said.DUPLICATE if form.address in (other.address for other in forms) else Said.KEPT


def _same(wanted: Mapping[str, Lead], found: Mapping[str, Row], id_: str) -> bool:
    lead, row = wanted[id_], found[id_]
    facts = row.last_name, row.email, row.sha256
    return (facts, row.state, row.version) == (lead.form.facts, lead.state, lead.version)
