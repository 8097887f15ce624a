"""Which sources should a small character language model read that is to be good at one of them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from benchmarks.paper.section import WORDS, Table
from benchmarks.paper.work import Work
from commentary_hub import artefact, evidence, insight
from commentary_hub.commentaries import MixtureWeights, causal_cross_entropy
from commentary_hub.data import CHARACTERS, Examples, characters, content_keys, open_raw
from commentary_hub.learning import Adam, Population, Student, Unrolled, learn
from commentary_hub.manifest import DatasetIdentity, judge
from commentary_hub.networks import network
from commentary_hub.recipes import save

OURS = "commentary"
TUNING_SEED = 1_000_000


@dataclass(frozen=True)
class Trial:
    """One split: ``train`` [rows] of all sources, ``of`` int64 [rows] says from which; the rest is the target's."""

    names: list[str]
    train: Examples
    of: Tensor
    validation: Examples
    selection: Tensor
    test: Tensor


def measured(work: Work) -> tuple[str, str, list[Table], list[str]]:
    """Learn a mixture for each split, train new models by it and by its controls; outcome, verdict, tables, notes."""
    settings = work.plan.settings["mixture"]
    texts = corpora(settings)
    runs = [partial(_run, work, texts, number) for number in range(settings["learning_runs"])]
    work.at_once(runs)
    return _told(settings, [one() for one in runs])


def _run(work: Work, texts: Mapping[str, list[str]], number: int) -> dict[str, Any]:
    settings = work.plan.settings["mixture"]
    trial = _split(texts, settings, number)
    of = [dict(settings), number]
    mixture = work.kept(f"mixture {number}: learned", of, partial(_learned, work, settings, trial, number))
    arms = _arms(trial, mixture["probabilities"], settings["target"], number)
    find = partial(_measured, settings, trial, arms, work.device)
    return {"arms": arms, **work.kept(f"mixture {number}: measured", of, find)}


def corpora(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name → texts: the topics of the news, and the plays."""
    news, _ = open_raw(settings["news"], split="test")
    plays, _ = open_raw(settings["plays"], split="train")
    assert news.classes is not None
    found: dict[str, list[str]] = {name: [] for name in news.classes}
    for values, labels in news.chunks():
        for text, label in zip(values, labels, strict=True):
            found[news.classes[int(label)]].append(text)
    return found | {"Shakespeare": [text for values, _ in plays.chunks() for text in values]}


def _split(texts: Mapping[str, list[str]], settings: Mapping[str, Any], number: int) -> Trial:
    rng = np.random.default_rng(number)
    length, target = settings["length"], settings["target"]
    pieces = {name: _pieces([own[i] for i in rng.permutation(len(own))], length) for name, own in texts.items()}
    own = iter(pieces[target])
    held = {name: [next(own) for _ in range(settings[name])] for name in ("validation", "selection", "test")}
    pieces[target] = [next(own) for _ in range(settings["target_rows"])]
    rows = {name: some[: settings["rows"]] for name, some in pieces.items()}
    names = list(rows)
    of = torch.tensor([names.index(name) for name, some in rows.items() for _ in some])
    examples = partial(_examples, length=length, identity=DatasetIdentity(id=settings["news"], split="test"))
    train = examples([piece for some in rows.values() for piece in some])
    ids = {name: characters(held[name], length=length) for name in ("selection", "test")}
    return Trial(names, train, of, examples(held["validation"]), **ids)


def _pieces(texts: list[str], length: int) -> list[str]:
    """The texts one after the other, cut into different pieces of ``length`` characters."""
    whole = "\n".join(texts)
    return list(dict.fromkeys(whole[at : at + length] for at in range(0, len(whole) - length + 1, length)))


def _examples(pieces: list[str], *, length: int, identity: DatasetIdentity) -> Examples:
    ids = characters(pieces, length=length)
    return Examples.of(ids, ids, keys=content_keys(pieces), form="text", identity=identity)


def _learned(work: Work, settings: Mapping[str, Any], trial: Trial, number: int) -> dict[str, Any]:
    """Learn the mixture on as many rows of every source, the target's repeated."""
    rows = _balanced(trial.of)
    mixture = MixtureWeights(trial.names, row_sources=trial.of[rows])
    learning = settings["learning"]
    learned = learn(
        mixture,
        Student("char_lm", partial(network, "char_lm", vocabulary=CHARACTERS, **learning["student"])),
        train=trial.train.subset(rows),
        validation=trial.validation,
        method=Unrolled(memory="full"),
        inner=Adam(lr=learning["inner_rate"], eps_root=1e-8),
        inner_steps=learning["inner_steps"],
        batch_size=learning["batch_size"],
        outer=partial(torch.optim.Adam, lr=learning["outer_rate"]),
        outer_steps=learning["outer_steps"],
        reduction="mean",
        criterion=causal_cross_entropy,
        population=Population(fresh_every=learning["fresh_every"], warm_up=learning["warm_up"]),
        seed=number,
        device=work.device,
    )
    says = f"Shares of five sources for a small language model that is to be good at {settings['target']}."
    folder = work.folder / "artefacts" / f"mixture-{number}"
    save(folder, learned, name="sources-mixture", description=says)
    artefact.attach(folder, plots=insight.pictures(artefact.load(folder)))
    return {"probabilities": mixture.probabilities(), "seconds": learned.cost.seconds}


def _balanced(of: Tensor) -> Tensor:
    """Rows of every source, repeated until each has as many as the largest."""
    most = int(torch.bincount(of).max())
    own = [(of == source).nonzero().squeeze(1) for source in range(int(of.max()) + 1)]
    return torch.cat([rows.repeat(-(-most // len(rows)))[:most] for rows in own])


def _arms(trial: Trial, learned: Mapping[str, float], target: str, number: int) -> dict[str, dict[str, float]]:
    """The shares of the sources under each arm; shuffled is another order of what was learned."""
    names = trial.names
    natural = (torch.bincount(trial.of) / len(trial.of)).tolist()
    rng = np.random.default_rng(number)
    order = rng.permutation(len(names))
    while order[names.index(target)] == names.index(target):
        order = rng.permutation(len(names))
    return {
        OURS: dict(learned),
        "uniform": dict.fromkeys(names, 1 / len(names)),
        "proportional": dict(zip(names, natural, strict=True)),
        "target only": {name: float(name == target) for name in names},
        "shuffled": {name: learned[names[at]] for name, at in zip(names, order, strict=True)},
    }


def _measured(
    settings: Mapping[str, Any], trial: Trial, arms: Mapping[str, Mapping[str, float]], device: str
) -> dict[str, Any]:
    """Bits per character of new models on the target's test text [seeds], at each arm's best rate on the selection."""
    taught = Examples.concatenated(trial.train, trial.validation)  # what taught the mixture teaches every arm
    home = torch.full((len(trial.validation),), trial.names.index(settings["target"]))
    of = torch.cat([trial.of, home])
    bits, rates = {}, {}
    for name, shares in arms.items():
        mixture = MixtureWeights(trial.names, row_sources=of)
        with torch.no_grad():
            mixture.logits.copy_(torch.tensor([shares[one] for one in trial.names]).log())
        train = partial(_trained, settings, taught.inputs.to(device), mixture.values())
        selection, test = trial.selection.to(device), trial.test.to(device)
        tried = {rate: train(selection, rate, TUNING_SEED) for rate in settings["rates"]}
        rates[name] = min(tried, key=tried.__getitem__)
        bits[name] = [train(test, rates[name], seed) for seed in range(settings["seeds"])]
    return {"bits": bits, "rates": rates}


def _trained(settings: Mapping[str, Any], ids: Tensor, weights: Tensor, probe: Tensor, rate: float, seed: int) -> float:
    """Train a new model on rows drawn by their weights; its bits per character on ``probe``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network("char_lm", vocabulary=CHARACTERS, **settings["student"]).to(ids.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    steps, size = settings["steps"], settings["batch_size"]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.tensor(list(WeightedRandomSampler(weights.tolist(), steps * size, generator=generator)))
    for rows in drawn.reshape(steps, size).to(ids.device):
        optimiser.zero_grad()
        causal_cross_entropy(model(ids[rows]), ids[rows]).mean().backward()
        optimiser.step()
    with torch.no_grad():
        return float(causal_cross_entropy(model(probe), probe).mean()) / math.log(2)


def _told(settings: Mapping[str, Any], found: list[dict[str, Any]]) -> tuple[str, str, list[Table], list[str]]:
    rows, said, outcomes = [], [], set()
    for arm in found[0]["bits"]:
        bits = [one["bits"][arm] for one in found]
        level = f"{np.mean(bits):.3f} [{', '.join(f'{end:.3f}' for end in evidence.interval(bits))}]"
        rates = ", ".join(f"{one['rates'][arm]:g}" for one in found)
        cells = ["", ""]
        if arm != OURS:
            saved = [[b - a for a, b in zip(one["bits"][OURS], one["bits"][arm], strict=True)] for one in found]
            low, high = evidence.interval(saved)
            outcomes.add(judge((low, high)))
            cells = [f"{np.mean(saved):+.3f} [{low:+.3f}, {high:+.3f}]", WORDS[judge((low, high))]]
            said.append(f"{arm} {cells[0]}")
        rows.append([f"**{arm}**" if arm == OURS else arm, level, *cells, rates])
    outcome = "hurts" if "hurts" in outcomes else "helps" if outcomes == {"helps"} else "no_difference"
    caption = (
        f"A new character model on {settings['target']}: {len(found)} learning runs × splits, {settings['seeds']} "
        f"seeds an arm, {settings['steps']} steps"
    )
    columns = ("sources drawn by", "bits per character", "bits saved by the commentary", "by the rule", "rates chosen")
    shares = Table(
        "Shares of the sources in each learning run",
        ("run", *found[0]["arms"][OURS]),
        [[str(n), *(f"{p:.2f}" for p in one["arms"][OURS].values())] for n, one in enumerate(found)],
    )
    verdict = f"Bits per character saved on {settings['target']} against: {', '.join(said)}."
    return outcome, verdict, [Table(caption, columns, rows), shares], []
