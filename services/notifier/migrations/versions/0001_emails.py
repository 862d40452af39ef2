"""First table: emails."""

import sqlalchemy as sa
from alembic import op

from shared.columns import LONG_TEXT, MOMENT, TEXT
from shared.dialect import MYSQL
from shared.mysql_migrations import make_turns

revision = "0001_emails"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "emails",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("lead_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("mailbox", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("provider_message_id", LONG_TEXT),
        sa.Column("reason", LONG_TEXT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.UniqueConstraint("event_id", "kind"),
    )
    op.create_index("ix_emails_mailbox_created_at", "emails", ["mailbox", "created_at"])
    op.create_index("ix_emails_lead_id", "emails", ["lead_id"])
    op.create_index("ix_emails_state", "emails", ["state"])
    if op.get_bind().dialect.name == MYSQL:
        make_turns()
