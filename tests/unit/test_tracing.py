"""What a span says of a failure, of a batch and of a request; what is refused at the start."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from shared.bus.protocol import Message, PublishFailed
from shared.settings import SettingsError
from shared.tracing import otlp, spans
from shared.tracing.messages import publishing
from shared.tracing.server import serving


class Trace:
    """Tracing into memory. `ended` are the spans so far."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()

    def turn_on(self, sampler: Sampler = ALWAYS_ON) -> None:
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        spans.turn_on(provider.get_tracer("test"))

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._kept.get_finished_spans()


@pytest.fixture
def trace() -> Iterator[Trace]:
    yield Trace()
    spans.turn_off()


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def failed(span: ReadableSpan) -> object:
    return attributes(span).get("error.type")


def test_a_failure_leaves_its_type_and_none_of_its_words(trace: Trace) -> None:
    trace.turn_on()
    with pytest.raises(PublishFailed), spans.step("outer"), spans.step("inner"):
        raise PublishFailed("ann@example.com")
    for span in trace.ended:
        assert failed(span) == "shared.bus.protocol.PublishFailed"
        assert span.status.is_ok is False
        assert "ann@example.com" not in span.to_json()


def test_of_a_batch_that_half_failed_only_that_half_is_a_failure(trace: Trace) -> None:
    trace.turn_on()
    batch = [Message(id_, "lead.created", b"{}") for id_ in ("kept", "lost")]
    with pytest.raises(PublishFailed), publishing("rabbitmq", batch):
        raise PublishFailed("no", frozenset({"kept"}))
    assert {attributes(span)["messaging.message.id"]: bool(failed(span)) for span in trace.ended} == {
        "kept": False,
        "lost": True,
    }


def test_messages_of_two_traces_stay_in_theirs_though_they_leave_in_one_batch(trace: Trace) -> None:
    trace.turn_on()
    parents = {id_: f"00-{id_ * 32}-{'1' * 16}-01" for id_ in "ab"}
    batch = [Message(id_, "lead.created", b"{}", headers={"traceparent": parent}) for id_, parent in parents.items()]
    with publishing("rabbitmq", batch) as sent:
        pass
    assert [message.headers["traceparent"].split("-")[1] for message in sent] == ["a" * 32, "b" * 32]
    assert not {message.headers["traceparent"] for message in sent} & set(parents.values())


def test_a_trace_that_is_not_sampled_is_handed_on_as_such(trace: Trace) -> None:
    trace.turn_on(ALWAYS_OFF)
    with spans.step("anything"):
        traceparent = spans.traceparent()
    assert traceparent is not None
    assert int(traceparent[-2:], 16) & 1 == 0
    assert trace.ended == ()


def test_while_tracing_is_off_nothing_is_made_and_messages_stay_as_they_are(trace: Trace) -> None:
    batch = [Message("1", "lead.created", b"{}", headers={"traceparent": "as the caller sent it"})]
    with spans.step("anything"), publishing("rabbitmq", batch) as sent:
        assert spans.traceparent() is None
    assert sent is batch
    assert trace.ended == ()


@pytest.mark.parametrize(
    ("method", "name", "said"), [("HEAD", "HEAD /leads", "HEAD"), ("ANN@EXAMPLE.COM", "HTTP /leads", "_OTHER")]
)
def test_a_request_is_named_by_its_method_if_that_is_one(trace: Trace, method: str, name: str, said: str) -> None:
    trace.turn_on()
    with serving({"method": method, "scheme": "http", "headers": []}) as span:
        span.answered("/leads", 200)
    (ended,) = trace.ended
    assert (ended.name, attributes(ended)["http.request.method"]) == (name, said)


@pytest.mark.parametrize(("status", "error"), [(404, None), (503, "503")])
def test_what_the_caller_did_wrong_is_no_failure_of_ours(trace: Trace, status: int, error: str | None) -> None:
    trace.turn_on()
    with serving({"method": "GET", "scheme": "http", "headers": []}) as span:
        span.answered("/leads", status)
    (ended,) = trace.ended
    assert failed(ended) == error


def test_a_request_that_broke_says_by_what_and_not_only_500(trace: Trace) -> None:
    trace.turn_on()
    with serving({"method": "GET", "scheme": "http", "headers": []}) as span:
        span.failed(KeyError("ann@example.com"))
        span.answered("/leads", 500)
    (ended,) = trace.ended
    assert failed(ended) == "KeyError"


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "http://", "http://collector?key=1"])
def test_an_endpoint_that_cannot_work_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"^LEADS_OTLP_ENDPOINT must be"):
        otlp.start("api", endpoint, None)


def test_headers_that_cannot_be_read_are_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match=r"^OTEL_EXPORTER_OTLP_HEADERS must be") as refused:
        otlp.start("api", "http://collector:4318", "Bearer hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_variable_of_opentelemetry_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(SettingsError, match="OTEL_ variable cannot work: max_queue_size"):
        otlp.start("api", "http://collector:4318", None)
