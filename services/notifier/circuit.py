"""The circuit before the mail provider: while it is away or refuses us, sending pauses and no attempt is burned.

    async with circuit.attempt(max_seconds=20):      # raises CircuitOpen when the pause is longer
        await transport.send(message)

`attempt` is `wait`, then `succeeded`, `failed` or `abandoned` by how the block ended. A caller that cannot use the
block calls these itself; after a `wait` that returned, exactly one of the three follows. One event loop, no threads.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from services.notifier.email import MailError, MailRejected, MailThrottled, MailUnauthorized

PROBE_LEASE_SECONDS = 60.0
"""A probe whose caller never says how it ended stops counting after this: longer than any send may take."""

PROBE_ANSWER_SECONDS = 1.0
"""When to ask again while somebody else's probe is under way."""

log = structlog.get_logger()


class CircuitState(StrEnum):
    """Whether e-mails may be sent: freely, not at all, or one to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitOpen(Exception):  # noqa: N818
    """No e-mail may be sent yet: nothing was tried. Ask again in `retry_after_seconds`."""

    def __init__(self, reason: str, *, retry_after_seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class CircuitPolicy:
    """How many failures in a row open the circuit, and how the pauses grow while it stays unavailable.

    Within a minute of the provider's return every e-mail shall be on its way, so no pause takes longer than half of it.
    """

    failures: int = 5
    first_pause_seconds: float = 5.0
    longest_pause_seconds: float = 30.0
    unauthorized_pause_seconds: float = 30.0
    """Somebody must correct a setting or the account; a probe each half minute notices soon that it is done."""


class Circuit:
    """Closed until the provider fails; open for a pause; then half-open, when one e-mail goes ahead as a probe."""

    def __init__(
        self,
        policy: CircuitPolicy = CircuitPolicy(),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._reason: str | None = None
        self._failures_in_a_row = 0
        self._pause_seconds = 0.0
        self._open_until = 0.0
        self._probing_until = 0.0
        self._is_let_go = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> CircuitState:
        """As of now: an open circuit becomes half-open by the passing of time alone."""
        if self._reason is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self._clock() < self._open_until else CircuitState.HALF_OPEN

    @property
    def reason(self) -> str | None:
        """Why it is not closed, in words for staff."""
        return self._reason

    @property
    def open_for_seconds(self) -> float:
        """How long until a probe may go; 0 when one may go now, and when closed."""
        return max(0.0, self._open_until - self._clock()) if self._reason is not None else 0.0

    @contextlib.asynccontextmanager
    async def attempt(self, max_seconds: float) -> AsyncIterator[None]:
        """`wait`, run the block, and learn from how it ended. Raises `CircuitOpen`, and whatever the block raises."""
        await self.wait(max_seconds)
        try:
            yield
        except MailError as error:
            self.failed(error)
            raise
        except BaseException:
            self.abandoned()
            raise
        self.succeeded()

    async def wait(self, max_seconds: float) -> None:
        """Return when one e-mail may be sent, at once when closed. Raises `CircuitOpen` after `max_seconds`.

        Raises it without any wait once `let_go` was called.

        When half-open exactly one caller returns; the others wait for what its probe shows.
        """
        deadline = self._clock() + max_seconds
        while not self._admits():
            left_seconds = deadline - self._clock()
            if left_seconds <= 0 or self._is_let_go:
                retry_after_seconds = self.open_for_seconds or PROBE_ANSWER_SECONDS
                raise CircuitOpen(self._reason or "", retry_after_seconds=retry_after_seconds)
            await self._pause(min(left_seconds, self._next_chance_seconds()))

    def let_go(self) -> None:
        """Send off who waits, now and from now on: the process stops, and a pause may be longer than that may take."""
        self._is_let_go = True
        self._notify()

    def check(self) -> None:
        """Raises `CircuitOpen` where it opened since `wait` returned: what was not sent yet must not be, now."""
        if self.state is CircuitState.OPEN:
            raise CircuitOpen(self._reason or "", retry_after_seconds=self.open_for_seconds)

    def succeeded(self) -> None:
        """The provider took an e-mail."""
        self._answered()

    def failed(self, error: MailError) -> None:
        """The provider refused, throttled, or was not there."""
        if isinstance(error, MailRejected):
            self._answered()
        elif isinstance(error, MailThrottled):
            self._open(error.reason, error.retry_after_seconds)
        elif isinstance(error, MailUnauthorized):
            self._open(error.reason, self._policy.unauthorized_pause_seconds)
        else:
            self._was_unavailable(error)

    def abandoned(self) -> None:
        """The attempt ended without a word from the provider (cancelled, a defect): nothing is learned from it."""
        self._probing_until = 0.0
        self._notify()

    def _admits(self) -> bool:
        if self.state is CircuitState.CLOSED:
            return True
        if self.state is CircuitState.OPEN or self._clock() < self._probing_until:
            return False
        self._probing_until = self._clock() + PROBE_LEASE_SECONDS
        return True

    def _answered(self) -> None:
        """An answer to an e-mail sent before the circuit opened says nothing about now: only a probe may close it."""
        if self.state is CircuitState.OPEN:
            return
        if self._reason is not None:
            log.info("circuit closed", was=self._reason)
        self._reason = None
        self._failures_in_a_row = 0
        self._pause_seconds = 0.0
        self._probing_until = 0.0
        self._notify()

    def _was_unavailable(self, error: MailError) -> None:
        """Failures of e-mails that were under way when the circuit opened must not make its pause grow."""
        if self.state is CircuitState.OPEN:
            return
        self._failures_in_a_row += 1
        if self.state is CircuitState.HALF_OPEN or self._failures_in_a_row >= self._policy.failures:
            doubled = self._pause_seconds * 2 or self._policy.first_pause_seconds
            self._pause_seconds = min(doubled, self._policy.longest_pause_seconds)
            self._open(error.reason, self._pause_seconds)

    def _open(self, reason: str, seconds: float) -> None:
        until = self._clock() + seconds
        if self.state is CircuitState.OPEN:
            until = max(until, self._open_until)
        if self.state is not CircuitState.OPEN or reason != self._reason:
            log.warning("circuit opened", reason=reason, open_for_seconds=round(seconds, 1))
        self._reason = reason
        self._open_until = until
        self._probing_until = 0.0
        self._notify()

    def _next_chance_seconds(self) -> float:
        """Until the circuit half-opens, or a probe's lease runs out; waiters are woken earlier by any change."""
        return max(self.open_for_seconds, self._probing_until - self._clock(), 0.001)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
