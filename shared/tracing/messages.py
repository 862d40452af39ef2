"""The spans of messages: handed to the bus, and worked on.

By https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ and the page about RabbitMQ beside it, which
says how a destination is named: `exchange:routing key`, and `:queue` for who consumes.

An event carries the context of the request that made it, in its own `traceparent`, unchanged to the end. The header of
the message carries the last hop, which is its publishing: that is what the CloudEvents extension for tracing asks of an
event that takes several hops
(https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from opentelemetry.trace import Span, SpanKind, Tracer

from shared.bus.protocol import Delivery, Message, PublishFailed
from shared.topology import EXCHANGE
from shared.tracing import spans


def publishing(system: str, messages: Sequence[Message]) -> AbstractContextManager[Sequence[Message]]:
    """A span for each message of a batch, under its own trace; the messages as they are to be sent, with its context.

    One for each and not one for all: a batch gathers messages of many traces, and a span has one parent.
    """
    maker = spans.tracer()
    return nullcontext(messages) if maker is None else _publishing(maker, system, messages)


def processing(system: str, queue: str, delivery: Delivery) -> AbstractContextManager[Span]:
    """The span of the work on one message, under its publishing. A later attempt is a sibling of the first one."""
    maker = spans.tracer()
    if maker is None:
        return spans.NOTHING
    message = delivery.message
    destination = f"{_destination(message)}:{queue}"
    attributes = {**_attributes(system, "process", "process", destination, message), "leads.attempt": delivery.attempt}
    parent = spans.parent_in(message.headers)
    return spans.running(maker, f"process {destination}", SpanKind.CONSUMER, attributes, parent=parent)


@contextmanager
def _publishing(maker: Tracer, system: str, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    begun = {message.id: _begin_publishing(maker, system, message) for message in messages}
    try:
        yield [_carrying(message, begun[message.id]) for message in messages]
    except BaseException as error:
        confirmed = error.confirmed if isinstance(error, PublishFailed) else frozenset()
        for id_, span in begun.items():
            if id_ not in confirmed:
                spans.fail(span, spans.error_type(error))
        raise
    finally:
        for span in begun.values():
            span.end()


def _begin_publishing(maker: Tracer, system: str, message: Message) -> Span:
    destination = _destination(message)
    return maker.start_span(
        f"publish {destination}",
        context=spans.parent_in(message.headers),
        kind=SpanKind.PRODUCER,
        attributes=_attributes(system, "publish", "send", destination, message),
    )


def _carrying(message: Message, span: Span) -> Message:
    headers = dict(message.headers)
    spans.inject(headers, span)
    return replace(message, headers=headers)


def _destination(message: Message) -> str:
    return f"{EXCHANGE}:{message.routing_key}"


def _attributes(system: str, name: str, kind: str, destination: str, message: Message) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "messaging.system": system,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
        "messaging.message.id": message.id,
        f"messaging.{system}.destination.routing_key": message.routing_key,
    }
    if message.correlation_id:
        found["messaging.message.conversation_id"] = message.correlation_id
    return found
