"""Reuse: a stored commentary in any training run.

::

    binding = bind(stored, train_set)                                # finds every example by its content
    for inputs, targets, rows in DataLoader(binding, batch_size=64, shuffle=True):
        loss = binding.loss(student, inputs, targets, rows)

Several commentaries act in a fixed order, whatever order they are given in: weights (their product), masks, blends. A
large table on the hub is read in part with `load_for`; streams are bound with `bind_stream`; a mixture of sources is
drawn from with `interleave`; a student that was trained under masks is used behind them with `at_inference`.
"""

from commentary_hub.reuse._bind import bind
from commentary_hub.reuse._binding import Binding, Counts
from commentary_hub.reuse._inference import at_inference
from commentary_hub.reuse._load import load, load_for
from commentary_hub.reuse._match import Match, match_rows
from commentary_hub.reuse._mixture import interleave
from commentary_hub.reuse._samples import CarryRows
from commentary_hub.reuse._stream import Seen, StreamBinding, bind_stream
from commentary_hub.reuse._transform import CommentaryCollate, CommentaryTransform

__all__ = [
    "Binding",
    "CarryRows",
    "CommentaryCollate",
    "CommentaryTransform",
    "Counts",
    "Match",
    "Seen",
    "StreamBinding",
    "at_inference",
    "bind",
    "bind_stream",
    "interleave",
    "load",
    "load_for",
    "match_rows",
]
