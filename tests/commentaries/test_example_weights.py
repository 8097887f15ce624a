"""A table of weights: where it starts."""

import pytest
import torch

from commentary_hub.commentaries import ExampleWeights
from commentary_hub.errors import ShapeError


def test_a_table_starts_from_one_number_or_from_one_for_every_example_and_stage():
    assert ExampleWeights(rows=2, stages=3, initial=2.0).logits.tolist() == [[2.0] * 3] * 2
    believed = torch.tensor([[0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)
    table = ExampleWeights(rows=2, stages=2, initial=believed)
    assert table.logits.tolist() == believed.tolist()
    assert table.logits.dtype == torch.float32
    assert table.logits.requires_grad


def test_a_table_does_not_share_memory_with_what_it_starts_from():
    believed = torch.zeros(2, 1)
    table = ExampleWeights(rows=2, initial=believed)
    with torch.no_grad():
        table.logits.add_(1.0)
    assert believed.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 2), (1,)])
def test_a_start_of_another_shape_is_refused_instead_of_broadcast(shape):
    with pytest.raises(ShapeError, match=r"initial has shape .* give one number or a tensor \[3, 1\]"):
        ExampleWeights(rows=3, initial=torch.zeros(shape))
