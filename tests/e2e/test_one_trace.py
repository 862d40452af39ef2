"""One lead, one trace: from the request over storage, outbox, bus and notifier to SendGrid, in a collector's hands."""

import json
import sqlite3
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.harness.client import Client
from tests.harness.collector import Collector, Seen
from tests.harness.deployment import ADMIN, PASSWORD, ROOMS
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import AT_SCALE, House, at_scale, with_sendgrid

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMBEDDED_BUS = "sqlite"
STRANGERS_TRACE, STRANGERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED_AND_RANDOM = "03"
"""https://www.w3.org/TR/trace-context-2/#trace-flags"""

PERSONAL = ("Zaphod", "Beeblebrox", "zaphod", "towel")


@dataclass(frozen=True)
class Traced:
    """A deployment and the collector that it sends its traces to."""

    house: House
    collector: Collector
    system: str

    @property
    def url(self) -> str:
        return self.house.deployment.api_url


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[EMBEDDED_BUS, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)],
)
async def traced(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    async with Collector() as collector:
        settings = {**collector.settings, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20of-the-tests"}
        if request.param == EMBEDDED_BUS:
            async with with_sendgrid(folder, settings) as house:
                yield Traced(house, collector, "sqlite")
        else:
            async with at_scale(folder, request.getfixturevalue("rabbit_node"), settings) as house:
                yield Traced(house, collector, "rabbitmq")


async def spans_of_a_lead(traced: Traced, email: str, headers: dict[str, str]) -> list[Seen]:
    """All spans of the trace of one lead whose e-mails have been sent."""
    async with Client(traced.url) as client:
        answer = await client.post_lead(
            email, pdf(3000), first_name="Zaphod", last_name="Beeblebrox", filename="towel.pdf", headers=headers
        )
    assert answer.status == 201
    lead_id = answer.json["id"]
    await wait_for(traced.house.inbox, 2, lead_id=lead_id)
    (request,) = await traced.collector.wait_for(lambda span: span.attributes.get("leads.lead_id") == lead_id, 1)
    return await traced.collector.wait_for(lambda span: span.trace_id == request.trace_id, 8)


def tree(spans: list[Seen], parent_id: str) -> list[tuple]:
    """Who called whom, from `parent_id` down: service, kind, name, and the same for those below."""
    below = sorted((span for span in spans if span.parent_id == parent_id), key=lambda span: (span.service, span.name))
    return [(span.service, span.kind, span.name, tree(spans, span.span_id)) for span in below]


MAIL = ("leads-notifier", "CLIENT", "POST /v3/mail/send", [])
WHOLE_WAY = [
    (
        "leads-api",
        "SERVER",
        "POST /leads",
        [
            (
                "leads-api",
                "CLIENT",
                "PUT /blobs/{id}",
                [("leads-storage", "SERVER", "PUT /blobs/{blob_id}", [])],
            ),
            ("leads-api", "INTERNAL", "commit lead and event", []),
            (
                "leads-api",
                "PRODUCER",
                "publish leads:lead.created",
                [("leads-notifier", "CONSUMER", "process leads:lead.created:notifier", [MAIL, MAIL])],
            ),
        ],
    )
]


async def test_a_lead_is_one_trace_from_the_request_to_its_two_mails(traced):
    spans = await spans_of_a_lead(traced, "zaphod@example.com", {})
    assert tree(spans, parent_id="") == WHOLE_WAY
    assert not [span.name for span in spans if span.failed]


async def test_a_caller_that_has_a_trace_finds_the_lead_in_it(traced):
    traceparent = f"00-{STRANGERS_TRACE}-{STRANGERS_SPAN}-01"
    spans = await spans_of_a_lead(traced, "zaphod.traced@example.com", {"traceparent": traceparent})
    assert {span.trace_id for span in spans} == {STRANGERS_TRACE}
    assert tree(spans, parent_id=STRANGERS_SPAN) == WHOLE_WAY


async def test_the_event_names_the_request_and_its_message_the_publishing(traced):
    spans = {span.name: span for span in await spans_of_a_lead(traced, "zaphod.event@example.com", {})}
    request, publish = spans["POST /leads"], spans["publish leads:lead.created"]
    with sqlite3.connect(traced.house.deployment.data / "leads.db") as connection:
        lead = request.attributes["leads.lead_id"]
        (body,) = connection.execute("SELECT body FROM outbox WHERE subject = ?", (lead,)).fetchone()
    connection.close()
    assert json.loads(body)["traceparent"] == f"00-{request.trace_id}-{request.span_id}-{SAMPLED_AND_RANDOM}"
    assert spans["process leads:lead.created:notifier"].parent_id == publish.span_id


async def test_spans_hold_what_the_conventions_ask_for_and_our_ids(traced):
    spans = {span.name: span for span in await spans_of_a_lead(traced, "zaphod.ids@example.com", {})}
    request = spans["POST /leads"].attributes
    assert (request["http.request.method"], request["http.route"]) == ("POST", "/leads")
    assert request["http.response.status_code"] == 201
    put = spans["PUT /blobs/{id}"].attributes
    assert put["server.port"] == traced.house.deployment.ports["storage"]
    for name, operation in (("publish leads:lead.created", "send"), ("process leads:lead.created:notifier", "process")):
        message = spans[name].attributes
        assert message["messaging.system"] == traced.system
        assert message["messaging.operation.type"] == operation
        assert message["messaging.destination.name"] == name.split()[1]
        assert message["messaging.message.conversation_id"] == request["leads.correlation_id"]
    mail = spans["POST /v3/mail/send"].attributes
    assert mail["http.response.status_code"] == 202
    assert mail["leads.email_id"] in traced.house.sendgrid.accepted_by_email_id


async def test_no_span_holds_a_name_an_address_or_what_a_stranger_wrote(traced):
    await spans_of_a_lead(traced, "zaphod.private@example.com", {})
    async with Client(traced.url) as client:
        await client.login(ADMIN, PASSWORD)
        assert (await client.call("GET", "/leads?email=zaphod@example.com&q=Beeblebrox")).status == 200
        assert (await client.call("GET", "/leads/zaphod@example.com")).status in {404, 422}
        assert (await client.call("GET", "/nothing/zaphod@example.com")).status == 404
        assert (await client.post_lead("zaphod.private@example.com", pdf(2000))).status == 400
    await traced.collector.wait_for(lambda span: span.attributes.get("http.response.status_code") == 400, 1)
    for word in (*PERSONAL, ADMIN, PASSWORD):
        assert not [span.name for span in traced.collector.spans if word in span.everything], word


async def test_a_refused_mail_fails_its_span_with_the_status_and_not_with_words(traced):
    traced.house.sendgrid.behave("400", times=2)
    async with Client(traced.url) as client:
        answer = await client.post_lead("zaphod.refused@example.com", pdf(3000))
    assert answer.status == 201
    failed = await traced.collector.wait_for(lambda span: span.failed, 3)
    assert sorted((span.name, span.attributes["error.type"]) for span in failed) == [
        ("POST /v3/mail/send", "400"),
        ("POST /v3/mail/send", "400"),
        ("process leads:lead.created:notifier", "shared.worker.GiveUp"),
    ]


async def test_log_lines_of_all_rooms_name_the_trace(traced):
    spans = await spans_of_a_lead(traced, "zaphod.log@example.com", {})
    for room, event in (
        ("api", "request"),
        ("api", "event published"),
        ("storage", "request"),
        ("notifier", "email sent"),
    ):
        lines = [line for line in traced.house.deployment.log(room) if line.get("trace_id") == spans[0].trace_id]
        assert event in {line["event"] for line in lines}, room


async def test_the_collector_is_shown_the_headers_that_it_asks_for(traced):
    await traced.collector.wait_for(lambda span: True, 1)
    assert traced.collector.headers["Authorization"] == "Bearer of-the-tests"


async def test_probes_are_not_traced(traced):
    async with Client(traced.url) as client:
        assert (await client.call("GET", "/readyz")).status == 200
    await spans_of_a_lead(traced, "zaphod.probe@example.com", {})
    assert not [span.name for span in traced.collector.spans if "readyz" in span.everything]


async def test_the_last_spans_are_delivered_before_a_room_ends(tmp_path):
    async with Collector() as collector:
        never = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
        async with with_sendgrid(tmp_path, {**collector.settings, **never}) as house:
            async with Client(house.deployment.api_url) as client:
                answer = await client.post_lead("zaphod.last@example.com", pdf(3000))
            await wait_for(house.inbox, 2, lead_id=answer.json["id"])
            for room in reversed(ROOMS):
                assert await house.deployment.stop(room) == 0
        assert tree(collector.spans, parent_id="") == WHOLE_WAY
