"""Traces by OpenTelemetry: one from the request over storage, outbox, bus and notifier to the call of SendGrid.

`spans` is what a span is here, and the switch; `server`, `client` and `messages` make those of each border by the
semantic conventions; `otlp` sends them away. Off until `otlp.start`: then each verb hands out the same empty span.

No attribute holds what a log line at INFO may not hold. Of a failure its type is kept, never its words: those may name
an address.
"""
