"""The state machine: everything that people, staff, ops and faults do, in any order; what must hold after each step."""

import sys
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.chaos.checker import Facts, Verdict, check
from tests.chaos.model import PENDING, REACHED_OUT, Form, Lead, Model, Said
from tests.chaos.rig import REST_SECONDS
from tests.chaos.system import Seen, System, Systems
from tests.harness.client import Answer
from tests.harness.deployment import ROOMS
from tests.harness.files import pdf
from tests.harness.sendgrid import Behaviour, SendGridStandIn

RESUME_BYTES = 2000
ROOM = st.sampled_from(ROOMS)
PICK = st.integers(0, 99)
"""Which lead or form: counted round, so that the draw does not depend on how many there are by now."""

DELAY_MS = st.sampled_from([0, 1, 2, 4, 8, 16, 32])
"""A lead takes about 15 ms from its first byte to its 201: before, within, after."""

CUT = st.sampled_from([0.2, 0.9, 1.0, 1.0])
TAG = st.sampled_from(["none", "as read", "stale"])
FAULT = st.sampled_from(["400", "400", "429", "500", "drop_before", "drop_after_accept"])


class LeadsMachine(RuleBasedStateMachine):
    """Drives one system and its model. A class made from this one says which: `systems`."""

    systems: Systems
    patience_seconds = REST_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self.system: System = self.systems.take()
        self.model = Model()
        self.before = {row.id: row for row in self.system.rows()}
        self.forms: list[Form] = []
        self.refusals = 0
        """How many e-mails SendGrid was told to refuse for good, and have not been replayed since."""
        self.dropped_answers = 0
        self.cut_short: set[str] = set()
        """E-mails that were being sent when the notifier was killed."""

    @property
    def sendgrid(self) -> SendGridStandIn:
        assert self.system.house.sendgrid is not None
        return self.system.house.sendgrid

    # People

    @initialize()
    def first_lead(self) -> None:
        self.submit(with_key=True)

    @rule(with_key=st.booleans())
    def submit(self, *, with_key: bool) -> None:
        self._send(self._new_form(with_key=with_key))

    @rule(pick=PICK, in_capitals=st.booleans(), with_key=st.booleans())
    def submit_from_the_same_address(self, *, pick: int, in_capitals: bool, with_key: bool) -> None:
        """Its domain is kept in lower case however it is typed, so only what is before it is told apart here."""
        local, _, domain = self._picked(pick).email.partition("@")
        self._send(self._new_form(f"{local.upper() if in_capitals else local}@{domain}", with_key=with_key))

    @rule(pick=PICK, is_changed=st.booleans())
    def submit_again(self, *, pick: int, is_changed: bool) -> None:
        """With the same key, if it had one; the same form or another."""
        sent = self._picked(pick)
        self._send(Form("Other", sent.email, sent.resume, sent.key) if is_changed else sent)

    @rule(share=CUT)
    def submit_and_hang_up(self, *, share: float) -> None:
        form = self._new_form(with_key=True)
        if "api" in self.system.down:
            return
        self.system.cut(form, share)
        if share == 1:
            self.model.unanswered.append(form)

    @rule(room=ROOM, delay_ms=DELAY_MS, again=st.booleans())
    def submit_while_killing(self, *, room: str, delay_ms: int, again: bool) -> None:
        if room in self.system.down:
            return
        form = self._picked(0) if again else self._new_form(with_key=True)
        answer = self.system.post_while_killing(form, room, delay_ms / 1000)
        self._judge(form, answer, in_doubt=True)
        self._is_gone(room)

    # Staff

    @rule(pick=PICK, wanted=st.sampled_from([REACHED_OUT, PENDING]), tag=TAG)
    def move(self, *, pick: int, wanted: str, tag: str) -> None:
        lead = self._lead(pick)
        if_match = {"none": None, "as read": f'"{lead.version}"', "stale": f'"{lead.version - 1}"'}[tag]
        (answer,) = self.system.move(lead.id, wanted, if_match)
        if self._no_answer_is_right(answer):
            return
        if tag == "stale":
            assert answer.status == 412, answer
        elif wanted != lead.state and lead.state == REACHED_OUT:
            assert answer.status == 409, answer
        else:
            self._moved(lead, answer, wanted)

    @rule(pick=PICK)
    def move_twice_at_once(self, *, pick: int) -> None:
        lead = self._lead(pick)
        answers = self.system.move(lead.id, REACHED_OUT, f'"{lead.version}"', times=2)
        if self._no_answer_is_right(answers[0]):
            return
        wanted = [200, 200] if lead.state == REACHED_OUT else [200, 412]
        assert sorted(answer.status for answer in answers if answer) == wanted, answers
        self._moved(lead, next(answer for answer in answers if answer and answer.status == 200), REACHED_OUT)

    @rule(pick=PICK, delay_ms=DELAY_MS)
    def move_while_killing(self, *, pick: int, delay_ms: int) -> None:
        lead = self._lead(pick)
        if "api" in self.system.down:
            return
        answer = self.system.move_while_killing(lead.id, REACHED_OUT, delay_ms / 1000)
        if answer is None:
            lead.is_moving = lead.state == PENDING
        else:
            self._moved(lead, answer, REACHED_OUT)
        self._is_gone("api")

    # Faults and ops

    @rule(room=ROOM)
    def kill(self, *, room: str) -> None:
        if room not in self.system.down:
            self.system.kill(room)
            self._is_gone(room)

    @rule(room=ROOM)
    def stop(self, *, room: str) -> None:
        if room not in self.system.down:
            assert self.system.stop(room) == 0, f"the {room} did not end well"
            self._is_gone(room)

    @rule()
    def start(self) -> None:
        self.system.start()

    @rule(fault=FAULT)
    def sendgrid_fails_once(self, *, fault: str) -> None:
        self.sendgrid.behave(fault, times=1)
        self.refusals += fault == "400"
        self.dropped_answers += fault == "drop_after_accept"

    @rule()
    def drain(self) -> None:
        self._rest()

    @rule()
    def replay(self) -> None:
        facts = self._rest()
        if facts.dead:
            self.refusals -= sum(email.state == "failed" for email in facts.emails)
            said = self.system.replay()
            assert said == f"{facts.dead} back in notifier.\n", said

    # What must hold after each step

    @invariant()
    def each_lead_is_kept_as_the_model_says(self) -> None:
        rows = self.system.rows()
        self.model.learn(rows)
        assert {row.id: row for row in rows if row.id in self.before} == self.before, "a lead of before changed"
        new = [row for row in rows if row.id not in self.before]
        disagreements = self.model.disagreements(new)
        assert not disagreements, disagreements
        damaged = [row for row in new if self.system.blob_sha256(row) != row.sha256]
        assert not damaged, damaged

    @invariant()
    def staff_see_each_lead(self) -> None:
        if "api" in self.system.down:
            return
        total, seen = self.system.look([lead.id for lead in self.model.leads])
        least = len(self.before) + len(self.model.leads)
        assert least <= total <= least + len(self.model.unanswered), f"{total} leads, not {least}"
        for lead in self.model.leads:
            self._check_seen(lead, seen[lead.id])

    @invariant()
    def no_email_comes_twice_without_a_reason(self) -> None:
        emails = self.system.emails()
        ours = {lead.id for lead in self.model.leads}
        copies = Counter(mail.email_id for mail in self.system.house.inbox() if mail.lead_id in ours)
        assert copies.keys() <= emails.keys(), copies
        again = {email_id: count - 1 for email_id, count in copies.items() if count > 1}
        assert all(emails[email_id][1] > count for email_id, count in again.items()), "each attempt is written down"
        unexplained = sum(count for email_id, count in again.items() if email_id not in self.cut_short)
        assert unexplained <= self.dropped_answers, again

    def teardown(self) -> None:
        """After a run that ended well: everything that is open is answered, replayed and at rest, and adds up."""
        if sys.exc_info()[0] is not None:
            return  # what failed is told; what follows from it would only hide it
        self.sendgrid.behave(Behaviour.ACCEPT)
        self.replay()
        assert self._rest().dead == 0, "dead letters after a replay"
        self.system.ledger += self.model.ledger()
        self.system.rested = True

    def _new_form(self, email: str | None = None, *, with_key: bool) -> Form:
        number = next(self.system.numbers)
        email = email or f"p{number}@example.com"
        form = Form(f"Number {number}", email, pdf(RESUME_BYTES, seed=number), f"key-{number}" if with_key else None)
        self.forms.append(form)
        return form

    def _picked(self, pick: int) -> Form:
        return self.forms[pick % len(self.forms)]

    def _lead(self, pick: int) -> Lead:
        return self.model.leads[pick % len(self.model.leads)]

    def _send(self, form: Form) -> None:
        self._judge(form, self.system.post(form), in_doubt=False)

    def _judge(self, form: Form, answer: Answer | None, *, in_doubt: bool) -> None:
        """Whether this answer is right; `in_doubt`: something that it needs was killed meanwhile."""
        if answer is None:
            assert in_doubt or "api" in self.system.down, "no answer"
            if in_doubt:
                self.model.unanswered.append(form)
            return
        if answer.status == 503:
            assert "storage" in self.system.down, answer
            return
        assert in_doubt or "storage" not in self.system.down, answer
        said = _said(answer)
        assert said in self.model.answers(form), f"{said} for {form}, not {self.model.answers(form)}"
        if answer.status == 201:
            known = {lead.form.key: lead.id for lead in self.model.leads if lead.form.key}
            assert said is Said.KEPT or known.get(form.key, answer.json["id"]) == answer.json["id"], answer
            self.model.keep(answer.json["id"], form)

    def _no_answer_is_right(self, answer: Answer | None) -> bool:
        assert (answer is None) == ("api" in self.system.down), answer
        return answer is None

    def _moved(self, lead: Lead, answer: Answer, wanted: str) -> None:
        assert (answer.status, answer.json["state"]) == (200, wanted), answer
        if lead.state != wanted:
            lead.move()
        assert answer.headers["ETag"] == f'"{lead.version}"', answer

    def _is_gone(self, room: str) -> None:
        if room == "api":
            self.model.learn(self.system.rows())
            self.model.api_is_gone()
        if room == "notifier":
            self.cut_short |= {email_id for email_id, (state, _) in self.system.emails().items() if state == "sending"}

    def _check_seen(self, lead: Lead, seen: Seen | int) -> None:
        assert isinstance(seen, Seen), f"{seen} for {lead}"
        view = seen.view
        facts = view["last_name"], view["email"], view["resume"]["sha256"]
        assert (facts, view["state"], seen.etag) == (lead.form.facts, lead.state, f'"{lead.version}"'), (
            f"{seen}, {lead}"
        )
        assert seen.sha256 == (None if "storage" in self.system.down else facts[-1]), f"{seen}, {lead}"

    def _rest(self) -> Facts:
        """Everything is settled: only what SendGrid refused for good is not sent, and lies among the dead letters."""
        self.system.start()
        for form in self.model.unanswered:
            self._send(form)  # as people do; and while it is under way nothing is at rest
        facts = self.system.rest(self.model.ledger(), self.patience_seconds)
        failed = [email for email in facts.emails if email.state == "failed"]
        findings = [finding for finding in check(facts) if finding.verdict is not Verdict.REPEATED]
        assert facts.dead == len({email.lead_id for email in failed}), findings
        told = [finding for finding in findings if finding.verdict is Verdict.STUCK]
        assert len(told) == len(failed) + (facts.dead > 0), findings
        assert told == findings, findings
        assert len(failed) <= self.refusals, failed
        return facts


def _said(answer: Answer) -> Said | str:
    if answer.status == 201:
        return Said.REPLAYED if answer.headers.get("Idempotency-Replayed") == "true" else Said.KEPT
    said = f"{answer.status} {str(answer.json['type']).rpartition(':')[-1]}"
    return Said(said) if said in list(Said) else said
