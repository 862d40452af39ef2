"""This machine's clock, which tokens, retries and the order of leads live by."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp

from services.cli.doctor.databases import ask, kept
from services.cli.doctor.kept import CannotAsk
from services.cli.doctor.patient import Patient
from services.cli.doctor.report import Finding, failed, ok, skipped, warning
from services.notifier.settings import SENDGRID
from shared.ids import made_at

WARN_SECONDS = 5.0
FAIL_SECONDS = 60.0
"""A service token lives two minutes: half of that is as far as api and storage may be apart."""

ANSWER_SECONDS = 4.0
_MEND = "Let the machine keep its time (chrony or systemd-timesyncd); `timedatectl` tells how it does."


async def check_clock(patient: Patient) -> list[Finding]:
    """Against the `Date` of whoever answers (RFC 9110, section 6.6.1), and against what was written last."""
    found = [finding async for finding in _judge_rows(patient)]
    async for who, ahead_seconds in _others(patient):
        found.append(_judge(who, ahead_seconds))
    return found or [skipped("clock", "nobody answers whose clock this one could be compared with")]


async def _others(patient: Patient) -> AsyncIterator[tuple[str, float]]:
    """Whoever answers, and how many seconds we are ahead of them."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for who, url in _urls(patient):
            try:
                async with session.head(url, allow_redirects=False) as response:
                    told = parsedate_to_datetime(response.headers["Date"])
            except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError):
                continue  # whoever does not answer is told of by the checks of its own
            yield who, (datetime.now(UTC) - told).total_seconds()


def _urls(patient: Patient) -> Iterator[tuple[str, str]]:
    if patient.notifier is not None and patient.notifier.resolved_mail_url == SENDGRID:
        yield "SendGrid", patient.notifier.sendgrid_base_url
    if patient.api is not None:
        yield "the storage", f"{patient.api.resolved_storage_url}/healthz"


def _judge(who: str, ahead_seconds: float) -> Finding:
    """`Date` is in whole seconds, so that one is no difference."""
    way = "ahead of" if ahead_seconds > 0 else "behind"
    told = f"This machine's clock is {abs(ahead_seconds):.0f} s {way} that of {who}."
    if abs(ahead_seconds) > FAIL_SECONDS:
        return failed("clock", told, _MEND)
    if abs(ahead_seconds) > WARN_SECONDS:
        return warning("clock", told, _MEND)
    return ok("clock", f"agrees with that of {who}")


async def _judge_rows(patient: Patient) -> AsyncIterator[Finding]:
    """A row that was written later than now: the clock was ahead then, or is behind now."""
    for one in kept(patient):
        try:
            newest = await ask(one, one.newest)
        except CannotAsk:
            continue  # the check of the databases tells
        late = made_at(newest) - datetime.now(UTC) if isinstance(newest, str) else timedelta()
        told = f"What was written last to {one.setting} is from {late.total_seconds():.0f} s after now by this clock."
        if late.total_seconds() > FAIL_SECONDS:
            yield failed("clock", told, _MEND)
        elif late.total_seconds() > WARN_SECONDS:
            yield warning("clock", told, _MEND)
