"""Ages of Xet files, so that those of pushes that were given up are forgotten; those that are there begin a new day."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.add_column("xet_files", sa.Column("created_at", sa.Float(), nullable=False, server_default="0"))
    files = sa.table("xet_files", sa.column("created_at", sa.Float()))
    op.execute(files.update().values(created_at=time.time()))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("xet_files", "created_at")
