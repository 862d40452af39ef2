"""How much each part does: the long form, whose figures may be quoted, and the short one, which CI runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Durations in seconds are of one round each."""

    rounds: int
    intake_seconds: int
    floor_seconds: int
    list_seconds: int
    list_sizes: tuple[int, ...]
    """Leads in the database: the peers are compared at `compared_leads`, which is one of them."""
    compared_leads: int
    pages: int
    questions: int
    download_seconds: int
    events: int
    mailed_leads: int
    latency_rate: int
    latency_seconds: int
    uploads: int
    upload_bytes: int
    starts: int
    profile_seconds: int


LONG = Size(
    rounds=3,
    intake_seconds=15,
    floor_seconds=5,
    list_seconds=10,
    list_sizes=(10_000, 100_000, 1_000_000),
    compared_leads=100_000,
    pages=1_000,
    questions=400,
    download_seconds=10,
    events=20_000,
    mailed_leads=5_000,
    latency_rate=100,
    latency_seconds=600,
    uploads=64,
    upload_bytes=20_000_000,
    starts=5,
    profile_seconds=20,
)
SHORT = Size(
    rounds=1,
    intake_seconds=2,
    floor_seconds=1,
    list_seconds=1,
    list_sizes=(1_000, 10_000),
    compared_leads=10_000,
    pages=20,
    questions=40,
    download_seconds=1,
    events=1_000,
    mailed_leads=200,
    latency_rate=20,
    latency_seconds=10,
    uploads=8,
    upload_bytes=20_000_000,
    starts=1,
    profile_seconds=5,
)
