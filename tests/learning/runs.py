"""Short runs of learning that tests make, and how they are compared."""

import torch
from torch import nn

from commentary_hub.commentaries import ExampleWeights
from commentary_hub.learning import SGD, Student, Unrolled, learn
from tests.problems import CLASSES, blobs, smooth_student

MLP = Student("mlp", smooth_student)
NORMED = Student("normed", lambda: smooth_student(norm=True, dropout=0.2))
LINEAR = Student("linear", lambda: nn.Linear(6, CLASSES))


def run(students=MLP, *, data=None, commentary=None, **options):
    data = data or blobs()
    settings = {
        "method": Unrolled(), "inner": SGD(lr=0.5), "inner_steps": 8, "batch_size": 12, "outer_steps": 6, "seed": 3,
    }  # fmt: skip
    one = commentary or ExampleWeights(rows=len(data.train))
    return learn(one, students, train=data.train, validation=data.validation, **settings | options)


def numbers(learned):
    return [learned.commentary.state_dict(), learned.statistics, learned.history]


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other
