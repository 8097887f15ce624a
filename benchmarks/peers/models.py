"""The models of hypercleaning.py, which boat's environment can build too: plain torch."""

from torch import nn


def build(kind):
    """``linear``, ``mlp`` (a small one) or ``cbr`` (the paper's student) for pictures [1, 28, 28] of ten classes."""
    if kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, 2, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 64, 3, 2, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
