"""Forty digits, scored: the dataset, and how stored weights are looked up again; shared by the tests of interchange."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from commentary_hub.artefact import load
from commentary_hub.reuse import bind

WRITTEN = Path(__file__).parent / "written"
SIZE = 40
DIGITS = load_digits()
X, Y = DIGITS.data[:SIZE], DIGITS.target[:SIZE]


def dataset(order=None):
    order = np.arange(SIZE) if order is None else order
    return TensorDataset(torch.from_numpy(X[order]), torch.from_numpy(Y[order]))


def bound_weights(folder, order):
    """The stored weights of the examples in another order, undone, times their mean."""
    binding = bind(load(folder), dataset(order))
    assert binding.counts.found == SIZE
    weights = torch.empty(SIZE)
    weights[torch.from_numpy(order)] = binding.weights()
    return weights.numpy()


def check(folder, expected):
    order = np.random.default_rng(3).permutation(SIZE)
    assert bound_weights(folder, order) == pytest.approx(expected / expected.mean(), rel=1e-5)


def ranks(values):
    return (np.argsort(np.argsort(values)) + 0.5) / len(values)
