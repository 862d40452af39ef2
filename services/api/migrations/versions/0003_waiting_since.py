"""Since when an event waits, once it is to be published again: a confirm from before that counts for nothing.

Empty where it waits, or waited, since it was made. So the rows that are there need no change, and an api of the version
before may add to them while it is being replaced.
"""

import sqlalchemy as sa
from alembic import op

from shared.columns import MOMENT

revision = "0003_waiting_since"
down_revision = "0002_audit_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("waiting_since", MOMENT))
