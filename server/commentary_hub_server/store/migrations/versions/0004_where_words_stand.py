"""Where words stand: what was catalogued on PostgreSQL before the order by relevance says so too.

Until then each text was one heap of words, so that a name counted like a word of the card. SQLite has had a column for
each part from the beginning. The catalogue makes its tables itself: a new database has none yet.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
_BATCH = 1000


def upgrade() -> None:
    """Make the change."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql" or not sa.inspect(connection).has_table("catalogue_text"):
        return
    old = sa.text(
        "SELECT e.id, e.repo_id || ' ' || e.name AS name, e.dataset FROM catalogue_entries e "
        "JOIN catalogue_text t ON t.rowid = e.id WHERE ts_filter(t.words, '{a}') = '' ORDER BY e.id"
    )
    mark = sa.text(  # the heap, which holds these words as well, stays for the card
        "UPDATE catalogue_text SET words = setweight(to_tsvector('simple', :name), 'A') || "
        "setweight(to_tsvector('simple', :dataset), 'B') || words WHERE rowid = :id"
    )
    for rows in connection.execute(old).partitions(_BATCH):
        lines = [{"id": row.id, "name": _plain(row.name), "dataset": _plain(row.dataset)} for row in rows]
        connection.execute(mark, lines)


def downgrade() -> None:
    """Take it back: words without a place are what there was."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and sa.inspect(connection).has_table("catalogue_text"):
        connection.execute(sa.text("UPDATE catalogue_text SET words = setweight(words, 'D')"))


def _plain(text: str) -> str:
    """Words as the catalogue splits them."""
    return re.sub(r"\W+", " ", text.lower())
