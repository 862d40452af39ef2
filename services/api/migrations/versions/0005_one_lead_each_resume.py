"""A resume has one lead: a ticket that comes twice, at once, must not make two."""

from alembic import op

revision = "0005_one_lead_each_resume"
down_revision = "0004_rate_counts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_leads_resume_path", table_name="leads")
    op.create_index("ix_leads_resume_path", "leads", ["resume_path"], unique=True)
