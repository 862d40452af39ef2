"""A consumer in another language, with another library, reads `lead.created` as docs/asyncapi.yaml says."""

import asyncio
import json

import pytest
import yaml
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_rabbitmq_event
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft7Validator, FormatChecker

from contracts.documents import ASYNCAPI
from tests.harness.client import Client
from tests.harness.contract_tools import node_program
from tests.harness.deployment import deployed
from tests.harness.files import pdf

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CHANNEL = "lead.created"
MESSAGE = "lead.created.v1"


def fits(document, schema, value):
    Draft7Validator({"$ref": f"#/components/schemas/{schema}", **document}, format_checker=FormatChecker()).validate(
        value
    )


@pytest.mark.rabbitmq
async def test_a_foreign_consumer_reads_lead_created_as_the_document_says(rabbit_url, tmp_path, node_tools):
    document = yaml.safe_load(ASYNCAPI.read_text())
    channel = document["channels"][CHANNEL]
    exchange = channel["bindings"]["amqp"]["exchange"]["name"]
    async with (
        deployed(tmp_path, {"LEADS_BROKER_URL": rabbit_url}) as deployment,
        node_program("consume.mjs", rabbit_url, exchange, channel["address"]) as lines,
        Client(deployment.api_url) as client,
        asyncio.timeout(30),
    ):
        assert await lines.readline() == b"bound\n"
        headers = {"X-Correlation-ID": "from-afar", "traceparent": TRACEPARENT}
        lead = (await client.post_lead("zoe@example.com", pdf(3000), first_name="Zoë", headers=headers)).json
        message = json.loads(await lines.readline())

    said = document["components"]["messages"][MESSAGE]
    body, properties = json.loads(message["body"]), message["properties"]
    fits(document, MESSAGE, body)
    fits(document, "Headers", properties["headers"])
    assert message["fields"]["exchange"] == exchange
    assert (properties["contentType"], properties["type"]) == (said["contentType"], said["name"])
    assert (properties["messageId"], properties["correlationId"]) == (body["id"], "from-afar")
    assert (
        properties["deliveryMode"] == document["operations"][f"publish.{CHANNEL}"]["bindings"]["amqp"]["deliveryMode"]
    )
    assert properties["headers"]["traceparent"] == TRACEPARENT

    wire = RabbitMQMessage(properties["headers"], properties["contentType"], message["body"].encode())
    event = from_rabbitmq_event(wire, JSONFormat())
    assert (event.get_type(), event.get_id(), event.get_subject()) == (CHANNEL, body["id"], lead["id"])
    assert event.get_dataschema() == body["dataschema"]
    assert event.get_extension("correlationid") == "from-afar"
    assert event.get_data() == body["data"]
    assert event.get_data()["first_name"] == "Zoë"
    assert event.get_data()["resume"]["sha256"] == lead["resume"]["sha256"]
