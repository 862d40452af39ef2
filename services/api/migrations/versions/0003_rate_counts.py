"""Uses of rate limits, where several apis count together."""

import sqlalchemy as sa
from alembic import op

revision = "0003_rate_counts"
down_revision = "0002_audit_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_counts",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_rate_counts_ends_at", "rate_counts", ["ends_at"])
