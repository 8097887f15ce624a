"""Artefacts as files in memory: realistic manifests, evidence, tensors and pictures, made without torch."""

import functools
import hashlib
import json
import math
import random
import struct
import zlib

from commentary_hub.manifest import (
    Cost,
    DatasetBinding,
    DatasetIdentity,
    Evidence,
    FileDigest,
    Iterations,
    KeyScheme,
    Manifest,
    Parent,
    RecipeSummary,
    Status,
    TensorInfo,
    render_card,
    tensor_digest,
)
from commentary_hub_server.rules.catalogue import target_digest

METHODS = ("unrolled", "implicit, Neumann", "implicit, conjugate gradients")
CLASSES = {
    "uoft-cs/cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "zalando/fashion_mnist": (
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "boot",
    ),
    "fancyzhx/ag_news": ("World", "Sports", "Business", "Sci/Tech"),
    "sklearn/digits": tuple("0123456789"),
    "ylecun/mnist": tuple("0123456789"),
}
DESCRIPTIONS = {
    "example_weights": "A weight for every example, learned with 40 % wrong labels: mistakes end near 0.",
    "label_blend": "How much of a partner to mix into an example, by the two labels.",
    "attention_mask": "A mask that keeps what matters of a picture and dims the rest.",
    "mixture_weights": "How much of each source a text model should read.",
}
CARD = """# What it says

Learned on **{dataset}** so that a student trained with it does well on examples that somebody checked by hand.

| stage | learned on |
|---|---|
| weights | 1,437 examples |
| validation | 50 trusted examples |

The student minimises $\\sum_i w_i \\, \\ell(f(x_i), y_i)$, and the commentary the loss on the trusted examples,

$$\\frac{{\\partial L_V}}{{\\partial \\phi}} = -\\frac{{\\partial L_V}}{{\\partial \\theta}} H^{{-1}}
\\frac{{\\partial^2 L_T}}{{\\partial \\theta \\, \\partial \\phi}}.$$

## Limits

Learned for one label set. See [the paper](https://arxiv.org/abs/2011.03037). It says nothing about

- other label sets, and
- examples that were not in the table.
"""


def tensors(arrays):
    """A safetensors file from (name, dtype, shape, bytes)."""
    header, at = {}, 0
    for name, dtype, shape, data in arrays:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in arrays)


def weight_rows(rows, stages, chance, classes=10):
    """Keys, targets and logits of two groups: examples to trust, and mistakes, more of them among the high classes."""
    keys = sorted(chance.randbytes(16) for _ in range(rows))
    logits, targets = [], []
    for _ in range(rows):
        label = chance.randrange(classes)
        mistake = chance.random() < 0.2 + 0.4 * label / classes
        targets.append(target_digest(label))
        logits += [chance.gauss(-2.2 if mistake else 2.0, 0.9) * (stage + 1) / stages for stage in range(stages)]
    return tensors(
        [
            ("rows.keys", "U8", [rows, 16], b"".join(keys)),
            ("rows.targets", "U8", [rows, 8], b"".join(targets)),
            ("commentary.logits", "F32", [rows, stages], struct.pack(f"<{rows * stages}f", *logits)),
        ]
    ), keys


def png(width, height, pixel, text=b""):
    """A PNG of 8-bit grey from pixel(x, y), with a text chunk before the picture where one is given."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    raw = b"".join(b"\0" + bytes(int(pixel(x, y)) & 255 for x in range(width)) for y in range(height))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    parts += [chunk(b"tEXt", text)] if text else []
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")])


def sample_sheet(keys, chance, labels, columns=16, rows=4, side=14):
    """The picture of samples that some artefacts bring along: blurred strokes, lowest weight first."""
    count = columns * rows
    lines = [
        [keys[at].hex(), round((at + 0.5) / count, 4), labels[chance.randrange(len(labels))]] for at in range(count)
    ]
    spots = [(chance.uniform(4, 10), chance.uniform(4, 10), chance.uniform(0, 3)) for _ in range(count)]

    def pixel(x, y):
        cx, cy, turn = spots[(y // side) * columns + x // side]
        dx, dy = x % side - cx, y % side - cy
        return 235 * math.exp(-((dx * math.cos(turn) + dy * math.sin(turn)) ** 2) / 2.5 - (dx * dx + dy * dy) / 22)

    described = json.dumps({"columns": columns, "rows": rows, "samples": lines}).encode()
    return png(columns * side, rows * side, pixel, b"commentary-samples\0" + described)


@functools.cache
def overlay(seed):
    """A stand-in for a picture with its mask laid over: what lies outside the mask is dim."""
    chance = random.Random(seed)
    cx, cy = chance.uniform(20, 76), chance.uniform(20, 76)
    return png(
        96, 96,
        lambda x, y: (90 + 80 * math.sin(x / 7 + seed) * math.cos(y / 9))
        * (0.25 + 0.75 * math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 500)),
    )  # fmt: skip


def _tables(kind, dataset, chance, rows, stages):
    """(parameters, tensors in the manifest, tensor file, pictures) of a kind."""
    labels = CLASSES.get(dataset, tuple("0123456789"))
    if kind == "label_blend":
        count = len(labels)
        logits = [chance.gauss(-1 + 1.6 * (abs(a - b) == 1), 0.5) for a in range(count) for b in range(count)]
        data = tensors([("commentary.logits", "F32", [count, count], struct.pack(f"<{count * count}f", *logits))])
        return {"classes": count}, {"commentary.logits": TensorInfo(shape=(count, count), dtype="F32")}, data, {}
    if kind == "mixture_weights":
        sources = ["encyclopaedia", "news", "plays", "source code", "letters"]
        data = tensors([("commentary.logits", "F32", [5], struct.pack("<5f", 1.2, 0.4, -0.6, 0.9, -1.4))])
        return {"sources": sources}, {"commentary.logits": TensorInfo(shape=(5,), dtype="F32")}, data, {}
    if kind == "attention_mask":
        data = tensors([("commentary.network.weight", "F32", [8, 3, 3, 3], bytes(864))])
        captions = {
            f"overlay-{at}.png": f"Two digits, the mask around the {name} one"
            for at, name in enumerate(("red", "blue", "left"))
        }
        pictures = {f"plots/overlay-{at}.png": overlay(at) for at in range(3)}
        return (
            {"channels": 3, "network": "conv_map", "form": "centre"},
            {"commentary.network.weight": TensorInfo(shape=(8, 3, 3, 3), dtype="F32")},
            data,
            pictures | {"plots/captions.json": json.dumps(captions).encode()},
        )
    data, keys = weight_rows(rows, stages, chance, len(labels))
    pictures = (
        {"plots/samples.png": sample_sheet(keys, chance, labels)}
        if rows >= 64 and dataset != "fancyzhx/ag_news"
        else {}
    )
    return (
        {"rows": rows, "stages": stages, "neutral": 0.5},
        {"commentary.logits": TensorInfo(shape=(rows, stages), dtype="F32")},
        data,
        pictures,
    )


def artefact(name, kind, dataset, chance, *, rows=600, stages=4, measured=True, parents=(), deprecated=None):
    """(manifest, evidence, files) of one commentary."""
    parameters, described, data, pictures = _tables(kind, dataset, chance, rows, stages)
    manifest = Manifest(
        name=name,
        kind=kind,
        parameters=parameters,
        tensors=described,
        loss_reduction="weight_mean",
        iterations=Iterations(steps=600, batch_size=64),
        dataset=DatasetBinding(
            identity=DatasetIdentity(id=dataset, split="train"), rows=rows, validation_rows=50,
            key=KeyScheme(form="text" if dataset == "fancyzhx/ag_news" else "image"), classes=CLASSES.get(dataset),
        ),
        recipe=RecipeSummary(
            method=chance.choice(METHODS), inner_optimiser="sgd", outer_optimiser="adam", inner_steps=60,
            outer_steps=200, students=("mlp",), seeds=(0, 1, 2),
        ),
        cost=Cost(seconds=chance.uniform(20, 400), device="2 cores", inner_steps=12_000),
        versions={"torch": "2.11"},
        parents=tuple(Parent(reference=text) for text in parents),
        status=Status(state="deprecated", reason=deprecated) if deprecated else Status(),
        licence=chance.choice(("apache-2.0", "mit", "cc-by-4.0")),
        description=DESCRIPTIONS[kind],
        files={
            path: FileDigest(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
            for path, content in {"commentary.safetensors": data, **pictures}.items()
        },
    )  # fmt: skip
    evidence = measured_gain(manifest, chance) if measured else None
    files = {
        "commentary.json": manifest.to_json().encode(),
        "commentary.safetensors": data,
        "README.md": render_card(manifest, CARD.format(dataset=dataset)).encode(),
        **pictures,
    }
    if evidence:
        files["evidence.json"] = evidence.to_json().encode()
    return manifest, evidence, files


def measured_gain(manifest, chance):
    """Evidence with plausible numbers for two students and four controls."""
    base, measurements, verdicts = chance.gauss(0.05, 0.06), [], []
    for student in ("mlp", "cnn"):
        measurements.append(
            {
                "student": student,
                "control": "commentary",
                "runs": 10,
                "accuracy_mean": 0.89,
                "accuracy_ci95": (0.88, 0.9),
            }
        )
        for at, control in enumerate(("none", "equal_data", "shuffled", "clean_only")):
            mean, half = base + (3 - at) * 0.04, 0.015 + chance.random() * 0.02
            outcome = "helps" if mean > half else "hurts" if mean < -half else "no_difference"
            measurements.append(
                {
                    "student": student, "control": control, "runs": 10, "accuracy_mean": 0.89 - mean,
                    "accuracy_ci95": (0.88 - mean, 0.9 - mean), "difference_mean": mean,
                    "difference_ci95": (mean - half, mean + half),
                }
            )  # fmt: skip
            verdicts.append(
                {"student": student, "control": control, "outcome": outcome, "sentence": f"Against {control}."}
            )
    outcome = verdicts[-1]["outcome"]
    return Evidence.model_validate(
        {
            "tensor_digest": tensor_digest(manifest.files), "dataset": manifest.dataset.identity.id,
            "protocol": {
                "students": ("mlp", "cnn"), "controls": ("none", "equal_data", "shuffled", "clean_only"), "seeds": 10,
                "steps": 600, "batch_size": 64, "learning_rates": (0.1, 0.03),
                "selection": "the mean over validation runs",
                "rule": "helps where the paired 95 % interval lies above zero",
            },
            "measurements": measurements, "verdicts": verdicts, "outcome": outcome,
            "summary": {"helps": "It helps: every paired interval lies above zero, for both students.",
                        "hurts": "It hurts: against the best control the paired interval lies below zero.",
                        "no_difference": "No difference shown: against the best control it holds zero."}[outcome],
            "hardware": "2 cores", "versions": {"torch": "2.11"}, "cost_seconds": 80.0,
            "verifications": [
                {"account": "grace", "date": "2026-11-20", "hardware": "one GPU", "agrees": True,
                 "tensor_digest": tensor_digest(manifest.files)}
            ][: chance.random() < 0.4],
        }
    )  # fmt: skip
