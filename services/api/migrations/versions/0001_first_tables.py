"""First tables: leads, idempotency keys, users, outbox."""

import sqlalchemy as sa
from alembic import op

from shared.columns import BYTES, LONG_TEXT, MOMENT, TEXT
from shared.dialect import MYSQL
from shared.mysql_migrations import make_turns

revision = "0001_first_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leads",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("first_name", TEXT, nullable=False),
        sa.Column("last_name", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("email_key", TEXT, nullable=False, unique=True),
        sa.Column("search_text", LONG_TEXT, nullable=False),
        sa.Column("resume_path", TEXT, nullable=False),
        sa.Column("resume_filename", TEXT, nullable=False),
        sa.Column("resume_content_type", TEXT, nullable=False),
        sa.Column("resume_size_bytes", sa.Integer(), nullable=False),
        sa.Column("resume_sha256", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_index("ix_leads_created_at", "leads", ["created_at", "id"])
    op.create_index("ix_leads_state_created_at", "leads", ["state", "created_at", "id"])
    op.create_index("ix_leads_last_name", "leads", ["last_name", "id"])
    op.create_index("ix_leads_email", "leads", ["email", "id"])
    op.create_index("ix_leads_resume_path", "leads", ["resume_path"])
    op.create_table(
        "idempotency_keys",
        sa.Column("key", TEXT, primary_key=True),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("lead_id", TEXT, nullable=False),
        sa.Column("answer", LONG_TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "users",
        sa.Column("email", TEXT, primary_key=True),
        sa.Column("password_hash", LONG_TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("disabled_at", MOMENT),
    )
    op.create_table(
        "outbox",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("body", BYTES, nullable=False),
        sa.Column("correlation_id", TEXT),
        sa.Column("traceparent", TEXT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("published_at", MOMENT),
    )
    op.create_index("ix_outbox_subject", "outbox", ["subject"])
    if op.get_bind().dialect.name == MYSQL:  # which has no index of some rows only
        op.create_index("ix_outbox_unpublished", "outbox", ["published_at", "id"])
        make_turns()
        return
    unpublished = sa.text("published_at IS NULL")
    op.create_index("ix_outbox_unpublished", "outbox", ["id"], sqlite_where=unpublished, postgresql_where=unpublished)
