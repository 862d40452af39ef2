"""Uses of rate limits, where several apis count together."""

import sqlalchemy as sa
from alembic import op

from shared.columns import DOUBLE, TEXT

revision = "0004_rate_counts"
down_revision = "0003_waiting_since"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_counts",
        sa.Column("key", TEXT, primary_key=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("ends_at", DOUBLE, nullable=False),
    )
    op.create_index("ix_rate_counts_ends_at", "rate_counts", ["ends_at"])
