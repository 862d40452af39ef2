"""The AsyncAPI 3.0 document of what crosses the bus on RabbitMQ, made from the events and the topology.

The keys are those of https://www.asyncapi.com/docs/reference/specification/v3.0.0 and of its AMQP binding 0.3.0.
"""

import json
from pathlib import Path
from typing import Any

from shared.bus.rabbitmq.messages import ATTEMPT_HEADER, REASON_HEADER
from shared.bus.rabbitmq.topology import work_arguments
from shared.events import EVENT_TYPES, MEDIA_TYPE, TRACEPARENT_PATTERN, Event, EventData
from shared.topology import Queue, leads_topology
from shared.version import VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "contract" / "golden"

Part = dict[str, Any]
"""A piece of the document."""

_BINDING_VERSION = "0.3.0"
_PERSISTENT = 2

_HEADERS: Part = {
    "type": "object",
    "description": "AMQP headers. RabbitMQ may add its own (`x-death` and others).",
    "properties": {
        "traceparent": {
            "type": "string",
            "description": "W3C trace context, as the caller of the api sent it; left out when there was none.",
            "pattern": f"^{TRACEPARENT_PATTERN}$",
        },
        ATTEMPT_HEADER: {
            "type": "integer",
            "minimum": 1,
            "description": "In a consumer's own queue after a retry: which attempt this is. Not there at the first.",
        },
        REASON_HEADER: {
            "type": "string",
            "description": "In a consumer's own queue after a retry: why the last failed.",
        },
    },
}


def asyncapi() -> Part:
    """The document."""
    topology = leads_topology()
    events = list(EVENT_TYPES.values())
    published = {event.TYPE: _published(event, topology.exchange) for event in events}
    consumed = {queue.name: _consumed(queue) for queue in topology.queues}
    operations = [_publish(event) for event in events] + [_consume(queue) for queue in topology.queues]
    return {
        "asyncapi": "3.0.0",
        "id": "urn:leads:events",
        "info": {
            "title": "Leads: events",
            "version": VERSION,
            "description": "What Leads publishes, at least once each. How to consume it, and what may change: "
            "docs/events.md.",
            "license": {"name": "MIT", "url": "https://spdx.org/licenses/MIT.html"},
            "tags": [{"name": "events", "description": "CloudEvents 1.0, structured JSON."}],
        },
        "defaultContentType": MEDIA_TYPE,
        "servers": {"rabbitmq": _SERVER},
        "channels": published | consumed,
        "operations": dict(operations),
        "components": {
            "messages": {_message_name(event): _message(event) for event in events},
            "schemas": _schemas(events),
            "securitySchemes": {
                "password": {"type": "userPassword", "description": "A user of the broker, as its admin made it."}
            },
        },
    }


_SERVER: Part = {
    "host": "rabbit.internal:5672",
    "pathname": "/leads",
    "protocol": "amqp",
    "protocolVersion": "0.9.1",
    "description": "RabbitMQ 3.10 or newer, wherever `LEADS_BROKER_URL` says; the path is the virtual host.",
    "security": [{"$ref": "#/components/securitySchemes/password"}],
    "tags": [{"name": "rabbitmq", "description": "The bus at scale. The embedded bus is for rooms of Leads alone."}],
}


def _published(event: type[EventData], exchange: str) -> Part:
    return {
        "address": event.TYPE,
        "title": f"{event.TYPE} on the exchange {exchange}",
        "description": f"Bind a queue of your own to the exchange `{exchange}` with the routing key `{event.TYPE}`.",
        "messages": {_message_name(event): {"$ref": f"#/components/messages/{_message_name(event)}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": exchange, "type": "topic", "durable": True, "autoDelete": False},
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _consumed(queue: Queue) -> Part:
    messages = [_message_name(EVENT_TYPES[key]) for key in queue.routing_keys]
    return {
        "address": queue.name,
        "title": f"The queue {queue.name}",
        "description": f"Of {queue.name} alone: do not read from it. It takes: {', '.join(queue.routing_keys)}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": queue.name, "durable": True, "exclusive": False, "autoDelete": False},
                "bindingVersion": _BINDING_VERSION,
            }
        },
        "x-queue-arguments": work_arguments(queue),
    }


def _publish(event: type[EventData]) -> tuple[str, Part]:
    said = {
        "title": f"Publish {event.TYPE}",
        "summary": _docstring(event)[0],
        "description": "Sent again until the broker confirms it, so at least once: deduplicate by `id`.",
        "bindings": {"amqp": {"deliveryMode": _PERSISTENT, "mandatory": True, "bindingVersion": _BINDING_VERSION}},
    }
    return f"publish.{event.TYPE}", _operation("send", event.TYPE, [event]) | said


def _consume(queue: Queue) -> tuple[str, Part]:
    events = [EVENT_TYPES[key] for key in queue.routing_keys]
    said = {
        "title": f"Consume as {queue.name}",
        "summary": f"What {queue.name} does its work from.",
        "description": f"What fails comes again after {_waits(queue)}, then goes to `{queue.dead_letters}`.",
        "bindings": {"amqp": {"ack": True, "bindingVersion": _BINDING_VERSION}},
    }
    return f"consume.{queue.name}", _operation("receive", queue.name, events) | said


def _waits(queue: Queue) -> str:
    return ", ".join(f"{level.delay_seconds:g}" for level in queue.retry_levels) + " seconds"


def _operation(action: str, channel: str, events: list[type[EventData]]) -> Part:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{_message_name(event)}"} for event in events],
    }


def _message(event: type[EventData]) -> Part:
    golden = json.loads((GOLDEN / f"{_message_name(event)}.json").read_text())
    return {
        "name": event.TYPE,
        "title": f"{event.TYPE}, version {event.VERSION}",
        "summary": _docstring(event)[0],
        "description": "\n".join(_docstring(event)[1:]),
        "contentType": MEDIA_TYPE,
        "correlationId": {"location": "$message.payload#/correlationid"},
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"$ref": f"#/components/schemas/{_message_name(event)}"},
        "bindings": {"amqp": {"messageType": event.TYPE, "bindingVersion": _BINDING_VERSION}},
        "examples": [
            {"name": "golden", "headers": {"traceparent": golden["traceparent"]}, "payload": golden},
        ],
    }


def _schemas(events: list[type[EventData]]) -> Part:
    schemas: Part = {"Headers": _HEADERS}
    for event in events:
        data = event.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas |= {**data.pop("$defs", {}), event.__name__: data, _message_name(event): _envelope(event)}
    return schemas


def _envelope(event: type[EventData]) -> Part:
    """The CloudEvents envelope around that event. What is not set is left out of a message, so nothing is null."""
    envelope = Event.model_json_schema(mode="serialization")
    fields = envelope["properties"]
    for name, said in fields.items():
        if "anyOf" in said:
            fields[name] = said["anyOf"][0] | {"title": said["title"]}
    fields["source"]["const"] = event.SOURCE
    fields["type"]["const"] = event.TYPE
    fields["dataschema"]["const"] = event.schema_urn()
    fields["data"] = {"$ref": f"#/components/schemas/{event.__name__}"}
    optional = {name for name, field in Event.model_fields.items() if field.default is None}
    required = [name for name in fields if name not in optional]
    return {**envelope, "title": _message_name(event), "required": required}


def _message_name(event: type[EventData]) -> str:
    """As its golden file is called."""
    return f"{event.TYPE}.v{event.VERSION}"


def _docstring(event: type[EventData]) -> list[str]:
    return [line.strip() for line in (event.__doc__ or "").strip().splitlines() if line.strip()]
