"""Results of audits: the table that the api's audit metrics are read from."""

import sqlalchemy as sa
from alembic import op

from shared.columns import MOMENT, TEXT

revision = "0002_audit_runs"
down_revision = "0001_first_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_runs",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=False),
        sa.Column("leads_checked", sa.Integer(), nullable=False),
        sa.Column("discrepancies", sa.Integer(), nullable=False),
    )
