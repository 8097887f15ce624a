"""Sizes of xorbs, which quotas count, and the epochs that end a user's sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.add_column("xet_xorbs", sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("owners", sa.Column("session_epoch", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("owners", "session_epoch")
    op.drop_column("xet_xorbs", "size_bytes")
