"""The words of resumes, for the staff's search (services/api/resume_search/index.py)."""

import sqlalchemy as sa
from alembic import op

from shared.columns import TEXT
from shared.dialect import MYSQL, POSTGRESQL

revision = "0006_resume_words"
down_revision = "0005_one_lead_each_resume"
branch_labels = None
depends_on = None


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == MYSQL:
        return  # it is not offered there
    if dialect == POSTGRESQL:
        op.create_table(
            "resume_texts",
            sa.Column("lead_id", TEXT, primary_key=True),
            sa.Column("outcome", sa.Text(), nullable=False),
            sa.Column("words", sa.ARRAY(sa.Text()), nullable=False),
        )
        op.create_index("ix_resume_texts_words", "resume_texts", ["words"], postgresql_using="gin")
        return
    op.create_table(
        "resume_texts",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("lead_id", TEXT, nullable=False, unique=True),
        sa.Column("outcome", sa.Text(), nullable=False),
    )
    # Words are cut and folded before they come here, so the simplest tokenizer is right; and where in a resume a word
    # stands nobody asks.
    op.execute("CREATE VIRTUAL TABLE resume_words USING fts5(words, content='', detail=none, tokenize='ascii')")
