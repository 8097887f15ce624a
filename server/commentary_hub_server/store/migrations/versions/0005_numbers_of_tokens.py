"""Numbers of tokens, by which grants and links name them, are never given twice: SQLite gave the last one again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    _remake(sqlite_autoincrement=True)


def downgrade() -> None:
    """Take it back."""
    _remake(sqlite_autoincrement=False)


def _remake(*, sqlite_autoincrement: bool) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":  # a sequence counts on
        return
    tokens = sa.Table("tokens", sa.MetaData(), autoload_with=connection)
    settings = {"sqlite_autoincrement": sqlite_autoincrement}
    with op.batch_alter_table("tokens", copy_from=tokens, recreate="always", table_kwargs=settings):
        pass
