"""Every metric that Leads exports (Prometheus naming: base units, `_total` for counters), with its labels."""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# When each counter began would be one more series for each of them, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600, 3600, 21600)

HTTP_REQUEST_SECONDS = Histogram(
    "leads_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer, by route template and status.",
    ("service", "method", "route", "status"),
    buckets=_FAST,
)
LEADS_ACCEPTED = Counter("leads_accepted_total", "Leads answered with 201.")
LEADS_REFUSED = Counter("leads_refused_total", "Leads refused, by problem type.", ("problem",))
COMMIT_GROUP_SIZE = Histogram(
    "leads_commit_group_size",
    "Requests that shared one durable commit.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
OUTBOX_UNPUBLISHED = Gauge("leads_outbox_unpublished_events", "Events committed but not yet confirmed by the bus.")
OUTBOX_OLDEST_SECONDS = Gauge("leads_outbox_oldest_age_seconds", "Wait of the oldest unpublished event; 0 when none.")
EVENTS_PUBLISHED = Counter("leads_events_published_total", "Events confirmed by the bus.", ("type",))
PUBLISH_FAILURES = Counter("leads_publish_failures_total", "Batches that the bus did not fully confirm.")
PUBLISH_SECONDS = Histogram(
    "leads_publish_duration_seconds",
    "From handing a batch of events to the bus to its confirm of the last one.",
    buckets=_FAST,
)
EVENTS_HANDLED = Counter(
    "leads_events_handled_total", "Deliveries by queue and outcome (ack, retry, hold, dead).", ("queue", "outcome")
)
EVENTS_IN_HAND = Gauge("leads_events_in_hand", "Deliveries that this consumer works on now.", ("queue",))

QUEUE_MESSAGES = Gauge(
    "leads_queue_messages",
    "Messages by queue and state (ready, unacked, dead); unacked only where the bus tells it.",
    ("queue", "state"),
)
QUEUE_RETRYING = Gauge(
    "leads_queue_retrying_messages", "Messages that wait for another attempt, by retry level.", ("queue", "level")
)
QUEUE_CONSUMERS = Gauge("leads_queue_consumers", "Consumers that the bus knows of a queue.", ("queue",))
QUEUE_SEEN = Gauge(
    "leads_queue_stats_timestamp_seconds",
    "When the bus last told of this queue. What it told is withdrawn while it does not answer.",
    ("queue",),
)

EMAILS = Counter("leads_emails_total", "E-mails by kind and the state they came to.", ("kind", "state"))
EMAIL_SECONDS = Histogram(
    "leads_accepted_to_emailed_seconds", "From accepting the lead to the provider accepting its e-mail.", buckets=_SLOW
)
EMAILS_ROWS = Gauge("leads_emails_rows", "E-mails in the notifier's database, by state.", ("state",))
CIRCUIT_OPEN = Gauge("leads_mail_circuit_open", "1 while sending is paused because the mail provider cannot take it.")
BLOB_BYTES_WRITTEN = Counter("leads_blob_written_bytes_total", "Bytes of resumes kept durably.")
RESUMES_READ = Counter("leads_resumes_read_total", "Resumes read for the search, by what came of it.", ("outcome",))
BLOBS_SWEPT = Counter("leads_blobs_swept_total", "Blobs removed because no lead refers to them, or never finished.")

DISK_FREE = Gauge("leads_disk_free_bytes", "Bytes that a place can still take.", ("place",))
DISK_CAPACITY = Gauge("leads_disk_capacity_bytes", "Bytes of the file system that a place is on.", ("place",))
STORED_BYTES = Gauge("leads_stored_bytes", "Bytes that a place takes: a database with its log, a folder.", ("place",))

AUDIT_LAST_RUN = Gauge("leads_audit_last_run_timestamp_seconds", "When the last audit ended; 0 before the first.")
AUDIT_DISCREPANCIES = Gauge("leads_audit_discrepancies", "What does not add up, found by the last audit.")
AUDIT_LEADS_CHECKED = Gauge("leads_audit_leads_checked", "Leads that the last audit looked at.")

LOG_RECORDS_LOST = Counter(
    "leads_log_records_lost_total", "Log records that could not be written: a full disk, a pipe."
)

BUILD_INFO = Gauge("leads_build_info", "Always 1; the labels tell what runs.", ("service", "version"))
