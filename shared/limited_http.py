"""HTTP/1.1 with the limits on receiving that uvicorn itself does not set.

uvicorn waits for ever for the headers of a request (https://github.com/encode/uvicorn/issues/157), puts no bound on
them or on trailers, and closes while the client still sends, which shows it a reset instead of the answer.
`LimitedHttp` does none of this, and refuses requests of which two readers might read two things.
"""

import asyncio
from collections.abc import Callable
from enum import Enum

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shared.framing import framing_fault
from shared.ids import new_id
from shared.observe import CORRELATION_HEADER
from shared.problems import MEDIA_TYPE, Problem, ProblemType
from shared.web import HEADERS_MAX_BYTES

HEADERS_DEADLINE_SECONDS = 10.0
UNFINISHED_HEADERS_MAX_BYTES = 4 * HEADERS_MAX_BYTES
"""Where a header block without an end is cut off. One with an end and over the limit gets its 431 from the app."""

LINGER_SECONDS = 10.0
LINGER_MAX_BYTES = 16 * 1024 * 1024
"""For how long, and how much of, a refused body may still arrive, so that its sender gets to read the answer."""

log = structlog.get_logger()


class _Reading(Enum):
    """What the next bytes of a connection belong to."""

    NOTHING = "nothing"
    HEADERS = "headers"
    BODY = "body"


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a deadline and a bound for all that is not a wanted body."""

    _reading = _Reading.NOTHING
    _deadline: asyncio.TimerHandle | None = None
    _idle_bytes = 0
    """Received since headers ended, or since a piece of a body came."""

    _unwanted_bytes = 0
    _half_closed = False
    _before: RequestResponseCycle | None = None
    """The request before the newest one."""

    _door: "_Door | None" = None
    """That of the newest request."""

    _lost = False
    """Whether it is unknown where the next request begins."""

    _fault = "This is not a well-formed HTTP/1.1 request."

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._within(HEADERS_DEADLINE_SECONDS, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)
        if self.cycle is not None:
            self.cycle.transport = self.transport  # its door refers to us
        self._door = self._before = None

    def data_received(self, data: bytes) -> None:
        if self._is_unwanted():
            self._unwanted_bytes += len(data)
            if self._unwanted_bytes > LINGER_MAX_BYTES:
                self.transport.close()
        if self._lost or self.transport.is_closing():
            return
        self._idle_bytes += len(data)
        self._parse(data)
        if self._idle_bytes > UNFINISHED_HEADERS_MAX_BYTES:
            self._refuse(Problem(ProblemType.HEADERS_TOO_LARGE, "The request headers do not end."))
        elif self._deadline is None and self._awaits_headers():
            self._within(HEADERS_DEADLINE_SECONDS, self._headers_late)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._progress(_Reading.HEADERS)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is _Reading.HEADERS:  # a trailer is no header (RFC 9110, section 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_time()
        self._check_framing()
        if self.parser.should_upgrade() or self._has_parted:
            return
        self._before = self.cycle
        super().on_headers_complete()
        self._door = _Door(self, self.cycle)
        self.cycle.transport = self._door  # type: ignore[assignment]
        self._progress(_Reading.BODY)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._progress(_Reading.BODY)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._progress(_Reading.NOTHING)
        self._in_time()
        if self._half_closed:
            self.transport.close()

    def on_response_complete(self) -> None:
        if self._has_parted:
            self.pipeline.clear()  # the client was told that nothing behind the last answer is done
        super().on_response_complete()
        if self._is_unwanted():
            self._within(LINGER_SECONDS, self.transport.close)

    def close_in_peace(self) -> None:
        """Close when the client has sent what it is sending, or after a while.

        To close with bytes unread is a reset, which takes the answer out of the client's hands (RFC 9112, section 9.6).
        """
        if self._reading is _Reading.NOTHING and not self._lost:
            self.transport.close()
        elif not self._half_closed and not self.transport.is_closing():
            self._half_closed = True
            self.transport.write_eof()
            self.flow.resume_reading()
            self._within(LINGER_SECONDS, self.transport.close)

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(Problem(ProblemType.MALFORMED_REQUEST, self._fault))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Stay with HTTP/1.1 (RFC 9110, section 7.8).

        The parser leaves the body of such a request unread, and clients offer HTTP/2 with every first request
        (Java's HttpClient): so it reads the same headers once more, without the offer.
        """
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._parse(b"\r\n".join([*lines, b"", rest]))

    def _check_framing(self) -> None:
        fault = framing_fault(self.parser.get_method(), self.parser.get_http_version(), self.headers)
        if fault:
            self._fault = fault
            raise ValueError(fault)

    def _progress(self, reading: _Reading) -> None:
        self._reading = reading
        self._idle_bytes = 0

    def _is_unwanted(self) -> bool:
        """Whether nobody is going to read what arrives now."""
        answered = self._reading is _Reading.BODY and self._unanswered is None
        return answered or self._half_closed or self._lost

    def _awaits_headers(self) -> bool:
        return self._is_idle() or self._reading is _Reading.HEADERS

    def _is_idle(self) -> bool:
        """Whether no request is here, not even a part of one."""
        return self._reading is _Reading.NOTHING and self._unanswered is None

    @property
    def _has_parted(self) -> bool:
        """Whether the last answer has been given."""
        return self._half_closed or self.transport.is_closing()

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        """The newest request, unless its answer is complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _within(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._in_time()
        self._deadline = self.loop.call_later(seconds, otherwise)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _headers_late(self) -> None:
        detail = f"The request headers did not arrive within {HEADERS_DEADLINE_SECONDS:.0f} seconds."
        self._refuse(Problem(ProblemType.REQUEST_TIMEOUT, detail))
        if self._half_closed:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer what does not reach the app, and hear no more of it."""
        self._lost = True
        self._in_time()
        self._drop_unfinished()
        request = self._unanswered
        if request is not None and not request.more_body:
            request.keep_alive = False  # the fault lies behind a whole request, whose answer becomes the last
            self.flow.pause_reading()
            return
        if self._reading is not _Reading.BODY or (request is not None and not request.response_started):
            self._write(problem)
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        if self._door is not None:
            self._door.wait_no_longer()
        self.close_in_peace()

    def _drop_unfinished(self) -> None:
        """A request that others are before, and that will never be whole: nothing of it was done."""
        if self.pipeline and self.cycle.more_body:
            assert self._before is not None
            self.pipeline.popleft()
            self.cycle = self._before

    def _write(self, problem: Problem) -> None:
        correlation_id = new_id()
        log.info(
            "request refused unread",
            status=int(problem.status),
            reason=problem.detail,
            correlation_id=correlation_id,
        )
        body = problem.body()
        head = (
            f"HTTP/1.1 {problem.status.value} {problem.status.phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"{CORRELATION_HEADER.lower()}: {correlation_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


class _Door:
    """What uvicorn writes an answer to: the connection, except that it closes in peace.

    The head of an answer waits for the first bytes of its body: one packet, and one call of the kernel, instead of two.
    """

    _head = b""

    def __init__(self, protocol: LimitedHttp, request: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._unanswered: RequestResponseCycle | None = request

    def write(self, data: bytes) -> None:
        if self.is_closing():  # uvicorn begins with a request that followed another, also when its sender has gone
            return
        if self._is_head_of_body():
            self._head = data
            return
        head, self._head = self._head, b""
        self._protocol.transport.writelines((head, data))

    def is_closing(self) -> bool:
        return self._protocol._has_parted  # noqa: SLF001 - two halves of one thing

    def close(self) -> None:
        self.wait_no_longer()
        self._protocol.close_in_peace()

    def wait_no_longer(self) -> None:
        """There will be no body."""
        if self._head:
            self.write(b"")

    def _is_head_of_body(self) -> bool:
        """Whether what is written now is the head of an answer, whose body uvicorn will write, empty or not."""
        request = self._unanswered
        if request is None or not request.response_started:
            return False
        self._unanswered = None  # it refers to this door
        return request.scope["method"] != "HEAD"
