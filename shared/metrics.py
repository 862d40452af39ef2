"""Every metric that Leads exports (Prometheus naming: base units, `_total` for counters), with its labels."""

from prometheus_client import Counter, Gauge, Histogram

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
OUTBOX_OLDEST_SECONDS = Gauge("leads_outbox_oldest_age_seconds", "Age of the oldest unpublished event; 0 when none.")
EVENTS_PUBLISHED = Counter("leads_events_published_total", "Events confirmed by the bus.", ("type",))
PUBLISH_FAILURES = Counter("leads_publish_failures_total", "Batches that the bus did not fully confirm.")
EVENTS_HANDLED = Counter(
    "leads_events_handled_total", "Deliveries by queue and outcome (ack, retry, hold, dead).", ("queue", "outcome")
)
EMAILS = Counter("leads_emails_total", "E-mails by kind and the state they came to.", ("kind", "state"))
EMAIL_SECONDS = Histogram(
    "leads_accepted_to_emailed_seconds", "From accepting the lead to the provider accepting its e-mail.", buckets=_SLOW
)
CIRCUIT_OPEN = Gauge("leads_mail_circuit_open", "1 while sending is paused because the mail provider cannot take it.")
BLOB_BYTES_WRITTEN = Counter("leads_blob_written_bytes_total", "Bytes of resumes kept durably.")
BLOBS_SWEPT = Counter("leads_blobs_swept_total", "Blobs removed because no lead refers to them, or never finished.")
AUDIT_LAST_RUN = Gauge("leads_audit_last_run_timestamp_seconds", "When the last `leads audit` ended; 0 when never.")
AUDIT_DISCREPANCIES = Gauge("leads_audit_discrepancies", "What did not add up at the last `leads audit`.")
AUDIT_LEADS_CHECKED = Gauge("leads_audit_leads_checked", "Leads that the last `leads audit` looked at.")
