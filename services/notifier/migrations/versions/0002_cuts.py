"""How often in a row the sending of an e-mail was cut short: what ends its notifier each time is given up."""

import sqlalchemy as sa
from alembic import op

revision = "0002_cuts"
down_revision = "0001_emails"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("emails", sa.Column("cuts", sa.Integer(), nullable=False, server_default="0"))
