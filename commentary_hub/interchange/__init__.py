"""Scores of other tools as commentaries, and commentaries as tables for other tools.

::

    scores = read_scores("aum", "aum_values.csv")                       # what the tool says, as it says it
    import_scores("aum-weights", scores, "uoft-cs/cifar10", name="aum-weights")
    export("aum-weights", "weights.parquet")
"""

from commentary_hub.interchange._export import export
from commentary_hub.interchange._import import import_scores, weights_of
from commentary_hub.interchange._scores import Scores
from commentary_hub.interchange._tools import TOOLS, read_scores

__all__ = ["TOOLS", "Scores", "export", "import_scores", "read_scores", "weights_of"]
