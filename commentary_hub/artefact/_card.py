"""The body of a card: what a commentary is, how to use it, whether it helps, and what it looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from commentary_hub.manifest import Evidence, Manifest

_SENTENCE = {"helps": "helps", "no_difference": "makes no difference", "hurts": "hurts"}


def card_body(manifest: Manifest, evidence: Evidence | None, plots: Sequence[tuple[str, str]]) -> str:
    """CommonMark for a card; ``plots`` are (file name, alternative text) pairs under ``plots/``."""
    sections = [
        f"# {manifest.name}{_mark(evidence)}",
        _verdict(evidence),
        manifest.description,
        _facts(manifest),
        _usage(manifest),
        "" if evidence is None else _evidence(evidence),
        "" if not plots else "## Pictures\n\n" + "\n\n".join(f"![{alt}](plots/{name})" for name, alt in plots),
    ]
    return "\n\n".join(section for section in sections if section)


def _mark(evidence: Evidence | None) -> str:
    """What the first line says of a commentary that did not help."""
    if evidence is None or evidence.outcome == "helps":
        return ""
    return f": {_SENTENCE[evidence.outcome]}"


def _verdict(evidence: Evidence | None) -> str:
    if evidence is None:
        return "**No evidence:** nobody has measured yet whether this commentary helps."
    label = {"helps": "Helps", "no_difference": "No difference", "hurts": "Hurts"}[evidence.outcome]
    return f"**{label}:** {evidence.summary}"


def _facts(manifest: Manifest) -> str:
    dataset = manifest.dataset
    rows = [
        ("kind", f"`{manifest.kind}`"),
        ("dataset", f"`{dataset.identity.id}`, {dataset.rows:,} examples"),
        ("classes", "" if dataset.classes is None else ", ".join(dataset.classes[:20])),
        ("loss reduction", f"`{manifest.loss_reduction}`"),
    ]
    if manifest.iterations is not None:
        steps = manifest.iterations
        rows.append(("learned over", f"{steps.steps:,} steps of {steps.batch_size} examples"))
    if manifest.recipe is not None:
        rows.append(("method", f"{manifest.recipe.method}; students {', '.join(manifest.recipe.students)}"))
    if manifest.cost is not None:
        rows.append(("cost", f"{manifest.cost.seconds:.0f} s on {manifest.cost.device}"))
    if manifest.dataset.validation_rows:
        rows.append(("trusted examples", f"{manifest.dataset.validation_rows:,}: do not report accuracy on these"))
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows if value)]
    return "\n".join(lines)


def _usage(manifest: Manifest) -> str:
    name = f"owner/{manifest.name}"
    if manifest.kind == "support_weights":
        code = _EPISODES.format(name=name)
    elif manifest.kind == "mixture_weights":
        code = _MIXTURE.format(name=name)
    elif _HUB_ID.fullmatch(manifest.dataset.identity.id):
        code = _DICTIONARIES.format(name=name, column=_COLUMNS.get(manifest.dataset.key.form, "inputs"))
    else:
        code = _TUPLES.format(name=name)
    return f"## Use it\n\n```python\n{code}\n```"


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name: who opens it with `datasets` gets dictionaries
_COLUMNS = {"image": "image", "text": "input_ids"}  # what the student reads, by the examples' form
_TUPLES = """from commentary_hub import bind, load
from torch.utils.data import DataLoader

binding = bind(load("{name}"), dataset)  # finds each example by its content
for inputs, targets, rows in DataLoader(binding, batch_size=64, shuffle=True):
    loss = binding.loss(student, inputs, targets, rows)"""
_DICTIONARIES = """from commentary_hub import bind, load
from torch.utils.data import DataLoader

# dataset: your load_dataset(...).with_transform(...), with tensors in the columns "{column}" and "label"
binding = bind(load("{name}"), dataset)  # finds each example by its content
for batch in DataLoader(binding, batch_size=64, shuffle=True):
    loss = binding.loss(student, batch["{column}"], batch["label"], batch["commentary_row"])"""
_MIXTURE = """from commentary_hub import load
from commentary_hub.reuse import interleave

mixture = load("{name}")
# parts: the name of each source, and its dataset
mixed = interleave(mixture, {{source: parts[source] for source in mixture.commentary.sources}}, seed=0)"""
_EPISODES = """from commentary_hub import load
from commentary_hub.commentaries import Batch, commented_loss

weights = load("{name}").commentary
support = weights(Batch(support_inputs, support_targets), progress=0.0)  # one episode's support set
loss = commented_loss(learner(support.inputs), support, reduction="mean")"""


def _evidence(evidence: Evidence) -> str:
    lines = [
        "## Does it help?",
        "",
        f"Rule, fixed before the run: {evidence.protocol.rule}",
        "",
        "| student | arm | accuracy | 95 % interval | commentary minus arm | verdict |",
        "|---|---|---|---|---|---|",
    ]
    outcomes = {(v.student, v.control): _SENTENCE[v.outcome] for v in evidence.verdicts}
    for row in evidence.measurements:
        low, high = row.accuracy_ci95
        difference = ""
        if row.difference_ci95 is not None and row.difference_mean is not None:
            difference = f"{row.difference_mean:+.3f} [{row.difference_ci95[0]:+.3f}, {row.difference_ci95[1]:+.3f}]"
        verdict = outcomes.get((row.student, row.control), "")
        lines.append(
            f"| {row.student} | {row.control} | {row.accuracy_mean:.3f} | [{low:.3f}, {high:.3f}] "
            f"| {difference} | {verdict} |"
        )
    protocol = evidence.protocol
    rates = ", ".join(f"{rate:g}" for rate in protocol.learning_rates)
    design = (
        f"{protocol.seeds} paired seeds, {protocol.learning_runs} learning runs, {protocol.splits} splits, "
        f"{protocol.steps} steps; learning rates {rates} for every arm. {protocol.selection} "
        f"Measured on {evidence.hardware} in {evidence.cost_seconds:.0f} s."
    )
    lines += ["", design]
    return "\n".join(lines)
