"""Splits that keep the classes' shares, are the same for the same seed, and share no example."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, zip_longest

import numpy as np
import torch
from numpy.typing import NDArray

from commentary_hub.data._examples import Examples
from commentary_hub.errors import LabelError, SplitError


def split_examples(examples: Examples, sizes: Mapping[str, int], *, seed: int) -> dict[str, Examples]:
    """Disjoint, stratified, shuffled parts of ``examples``: name → part with ``sizes[name]`` examples.

    Each part holds the classes in the proportions of the whole, as exactly as whole numbers allow; where a class runs
    out, the others fill its places. Examples with a target for each token, or with numbers as targets, are taken as one
    class. What is left over belongs to no part. Of examples with equal content only the first takes part, so that no
    example can sit in two parts. The same seed gives the same parts on every machine. Raises `SplitError` when a part
    would be empty, or the parts ask for more than there is.

    >>> import torch
    >>> keys = np.arange(160, dtype=np.uint8).reshape(10, 16)
    >>> examples = Examples.of(torch.zeros(10, 2), torch.tensor([0, 1] * 5), keys=keys)
    >>> {name: part.targets.tolist() for name, part in split_examples(examples, {"a": 2, "b": 4}, seed=0).items()}
    {'a': [0, 1], 'b': [0, 1, 1, 0]}
    """
    _, first = np.unique(examples.keys, axis=0, return_index=True)
    first.sort()
    total = sum(sizes.values())
    for name, size in sizes.items():
        if size < 1:
            raise SplitError(f"split {name!r} asks for {size} examples: a split needs at least one", split=name)
    if total > len(first):
        raise SplitError(
            f"the splits ask for {total} examples ({_describe(sizes)}), the dataset has {len(first)} different ones: "
            "ask for less",
            asked=total,
            available=len(first),
        )
    rng = np.random.default_rng(seed)
    classed = examples.targets.dim() == 1 and not examples.targets.is_floating_point()
    labels = examples.targets if classed else torch.zeros(len(examples), dtype=torch.int64)
    targets = labels.numpy()[first]
    pools = {int(label): rng.permutation(first[targets == label]) for label in np.unique(targets)}
    shares = np.array([len(pool) for pool in pools.values()], dtype=np.float64) / len(first)
    taken = np.zeros(len(pools), dtype=np.int64)
    capacity = np.array([len(pool) for pool in pools.values()], dtype=np.int64)
    parts = {}
    for name, size in sizes.items():
        counts = _apportion(shares, size, capacity - taken)
        rows = np.concatenate([pool[t : t + n] for pool, t, n in zip(pools.values(), taken, counts, strict=True)])
        taken += counts
        parts[name] = examples.subset(torch.from_numpy(rng.permutation(rows)))
    return parts


def check_same_classes(**parts: Examples) -> None:
    """Raise `LabelError` naming the first two parts whose classes have other names, or the same in another order.

    A number would mean one class here and another there. Parts without names are believed.
    """
    named = [(name, part.classes) for name, part in parts.items() if part.classes is not None]
    for (one, left), (other, right) in combinations(named, 2):
        if left != right:
            number, there, here = next(
                (number, *pair) for number, pair in enumerate(zip_longest(left, right)) if pair[0] != pair[1]
            )
            raise LabelError(
                f"{one} has {len(left)} classes and {other} {len(right)}; number {number} is {there!r} in {one} and "
                f"{here!r} in {other}: open both with the same classes= (open_examples)",
                splits=(one, other),
            )


def check_comparable(**parts: Examples) -> None:
    """Raise `SplitError` naming the first two parts whose keys say nothing about each other.

    One example has other keys under another salt, and in another form: the pixels of a picture as numbers.
    """
    for (one, left), (other, right) in combinations(parts.items(), 2):
        if left.salt_check != right.salt_check:
            raise SplitError(
                f"{one} and {other} cannot be compared, as they are not salted alike: open them with the same salt=",
                splits=(one, other),
            )
        if left.form != right.form:
            raise SplitError(
                f"{one} and {other} cannot be compared, as one holds {left.form} and the other {right.form} examples: "
                "open them from the same kind of dataset (Examples.of is told the form of its keys by form=)",
                splits=(one, other),
            )


def check_disjoint(**parts: Examples) -> None:
    """Raise `SplitError` naming the first two parts that share an example (by content key), and how many.

    Parts whose keys cannot be compared are refused too (`check_comparable`).

    >>> keys = np.zeros((1, 16), dtype=np.uint8)
    >>> one = Examples.of(torch.zeros(1, 2), torch.tensor([0]), keys=keys)
    >>> check_disjoint(train=one, test=one)
    Traceback (most recent call last):
    commentary_hub.errors.SplitError: train and test share 1 example: make the splits again, or drop it from one of them
    """
    for name, part in parts.items():
        if len(part) == 0:
            raise SplitError(f"split {name!r} is empty", split=name)
    check_comparable(**parts)
    for (one, left), (other, right) in combinations(parts.items(), 2):
        shared = shared_keys(left.keys, right.keys)
        if shared:
            raise SplitError(
                f"{one} and {other} share {shared:,} example{'s' if shared > 1 else ''}: "
                f"make the splits again, or drop {'them' if shared > 1 else 'it'} from one of them",
                splits=(one, other),
                shared=shared,
            )


def shared_keys(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    """How many different keys two sets [N, 16] and [M, 16] share."""
    as_bytes = np.dtype((np.void, left.shape[1] if left.size else 16))
    one, other = (np.unique(np.ascontiguousarray(keys).view(as_bytes).ravel()) for keys in (left, right))
    both = np.sort(np.concatenate([one, other]))
    return int((both[1:] == both[:-1]).sum())


def _apportion(shares: NDArray[np.float64], size: int, capacity: NDArray[np.int64]) -> NDArray[np.int64]:
    """``size`` seats by largest remainder, no class above its capacity (the rest goes where there is room)."""
    quotas = shares * size
    counts = np.minimum(np.floor(quotas).astype(np.int64), capacity)
    order = np.argsort(-(quotas - np.floor(quotas)), kind="stable")
    while (missing := size - int(counts.sum())) > 0:
        open_classes = [int(label) for label in order if counts[label] < capacity[label]]
        counts[open_classes[:missing]] += 1
    return counts


def _describe(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
