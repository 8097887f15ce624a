"""A small world to browse: realistic manifests, evidence and tensors, held in memory behind the catalogue's doors."""

import base64
import hashlib
import json
import math
import random
import struct
from dataclasses import replace

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from commentary_hub.manifest import (
    DatasetBinding,
    DatasetIdentity,
    Evidence,
    FileDigest,
    KeyScheme,
    Manifest,
    RecipeSummary,
    TensorInfo,
    render_card,
    tensor_digest,
)
from commentary_hub_server.routes import catalogue as catalogue_routes
from commentary_hub_server.routes import pages
from commentary_hub_server.rules.catalogue import STRANGER, Catalogue, Revision, StoredFile, TokenLine, Viewer, describe

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DATASETS = ("sklearn/digits", "uoft-cs/cifar10", "ylecun/mnist", "fancyzhx/ag_news", "zalando/fashion_mnist")
OWNERS = ("ada", "grace", "emmy", "alan", "katherine", "noether-lab")
KINDS = ("example_weights", "example_weights", "label_blend", "attention_mask")
METHODS = ("unrolled", "implicit, Neumann", "implicit, conjugate gradients")
CARD = """# What it says

Weights for every training example of **{dataset}**, learned so that a student trained with them does well on
examples that somebody checked by hand. Mislabelled examples end near 0.

| stage | learned on |
|---|---|
| weights | 1,437 examples |
| validation | 50 trusted examples |

The student minimises $\\sum_i w_i \\, \\ell(f(x_i), y_i)$.

## Limits

Learned for one label set. See [the paper](https://arxiv.org/abs/2011.03037).
"""


class MemoryShelf:
    """Repositories as a dictionary of commits."""

    def __init__(self):
        self.commits = {}

    def commit(self, repo_id, files, title):
        history = self.commits.setdefault(repo_id.lower(), [])
        name = hashlib.sha1(f"{repo_id} {len(history)}".encode()).hexdigest()
        history.append((Revision(name, title, repo_id.split("/")[0], 1.79e9 + 86400 * len(history)), files))
        return name

    def resolve(self, repo_id, revision):
        history = self.commits.get(repo_id.lower(), [])
        names = [commit.id for commit, _ in history]
        return (names[-1] if names and revision == "main" else None) or (revision if revision in names else None)

    def _files(self, repo_id, revision):
        return next(files for commit, files in self.commits[repo_id.lower()] if commit.id == revision)

    def files(self, repo_id, revision):
        found = self._files(repo_id, revision)
        return [StoredFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in sorted(found.items())]

    def read(self, repo_id, revision, path, start, length):
        files = self._files(repo_id, revision)
        if path not in files:
            raise FileNotFoundError(path)
        return files[path][start : start + length]

    def history(self, repo_id, revision, limit):
        found = [commit for commit, _ in self.commits[repo_id.lower()]]
        return found[: [commit.id for commit in found].index(revision) + 1][::-1][:limit]


class MemoryAccounts:
    """Accounts whose password is their name twice."""

    def __init__(self, catalogue):
        self.catalogue, self.kept, self.deleted = catalogue, {}, []

    def check_password(self, name, password):
        return name if name in OWNERS and password == name * 2 else None

    def viewer(self, name):
        return Viewer(name, frozenset({name})) if name in OWNERS else STRANGER

    def tokens(self, name):
        return self.kept.get(name, [])

    def create_token(self, name, label, role):
        lines = self.kept.setdefault(name, [])
        lines.append(TokenLine(str(len(lines)), label, role, 1.79e9))
        return "hf_shown_once"

    def revoke_token(self, name, token_id):
        self.kept[name] = [line for line in self.tokens(name) if line.id != token_id]

    def may_administer(self, viewer, repo_id):
        return viewer.name is not None and repo_id.split("/")[0].lower() in viewer.namespaces

    def set_private(self, viewer, repo_id, *, private):
        assert self.may_administer(viewer, repo_id)
        self.catalogue.set_private(repo_id, private=private)

    def delete(self, viewer, repo_id):
        assert self.may_administer(viewer, repo_id)
        self.deleted.append(repo_id)
        self.catalogue.remove(repo_id)


def tensors(arrays):
    """A safetensors file from (name, dtype, shape, bytes)."""
    header, at = {}, 0
    for name, dtype, shape, data in arrays:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in arrays)


def weight_table(rows, stages, chance):
    """Keys, targets and logits of two groups: examples to trust, and mistakes."""
    keys = sorted(chance.randbytes(16) for _ in range(rows))
    logits = []
    for _ in range(rows):
        mistake = chance.random() < 0.4
        logits += [chance.gauss(-2.2 if mistake else 2.0, 0.9) * (stage + 1) / stages for stage in range(stages)]
    return tensors(
        [
            ("rows.keys", "U8", [rows, 16], b"".join(keys)),
            ("rows.targets", "U8", [rows, 8], chance.randbytes(8 * rows)),
            ("commentary.logits", "F32", [rows, stages], struct.pack(f"<{rows * stages}f", *logits)),
        ]
    ), keys


def artefact(name, kind, dataset, chance, *, rows=600, stages=4, measured=True):
    """(manifest, evidence, files) of one commentary."""
    data, _ = weight_table(rows, stages, chance)
    manifest = Manifest(
        name=name,
        kind=kind,
        parameters={"rows": rows, "stages": stages, "neutral": 0.5},
        tensors={"commentary.logits": TensorInfo(shape=(rows, stages), dtype="F32")},
        loss_reduction="weight_mean",
        dataset=DatasetBinding(identity=DatasetIdentity(id=dataset), rows=rows, key=KeyScheme(form="image")),
        recipe=RecipeSummary(
            method=chance.choice(METHODS), inner_optimiser="sgd", outer_optimiser="adam", inner_steps=60,
            outer_steps=200, students=("mlp",), seeds=(0, 1, 2),
        ),
        versions={"torch": "2.11"},
        licence=chance.choice(("apache-2.0", "mit", "cc-by-4.0")),
        description=f"Learned on {dataset.split('/')[1]} with wrong labels; trust the high end, check the low end.",
        files={"commentary.safetensors": FileDigest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))},
    )  # fmt: skip
    evidence = measured_gain(manifest, chance) if measured else None
    files = {
        "commentary.json": manifest.to_json().encode(),
        "commentary.safetensors": data,
        "README.md": render_card(manifest, CARD.format(dataset=dataset)).encode(),
        "plots/weights.png": PNG,
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
                "steps": 600, "batch_size": 64, "learning_rates": (0.1, 0.03), "selection": "validation",
                "rule": "ci95",
            },
            "measurements": measurements, "verdicts": verdicts, "outcome": outcome,
            "summary": {"helps": "It helps: every paired interval lies above zero, for both students.",
                        "hurts": "It hurts: against the best control the paired interval lies below zero.",
                        "no_difference": "No difference shown: against the best control it holds zero."}[outcome],
            "hardware": "2 cores", "versions": {"torch": "2.11"}, "cost_seconds": 80.0,
        }
    )  # fmt: skip


def world(count=24, *, url="sqlite://", seed=0):
    """(app, catalogue, shelf, accounts) with ``count`` commentaries, the last private; beyond 24 only catalogued."""
    options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if url == "sqlite://" else {}
    engine = create_engine(url, **options)
    catalogue, shelf, chance = Catalogue(engine), MemoryShelf(), random.Random(seed)
    catalogue.create()
    accounts = MemoryAccounts(catalogue)
    with engine.begin() as connection:
        for at in range(count):
            owner, dataset, kind = OWNERS[at % 6], DATASETS[at % 5], KINDS[at % 4]
            name = f"{dataset.split('/')[1]}-{kind.replace('_', '-')}-{at}"
            if at < 24:
                manifest, evidence, files = artefact(name, kind, dataset, chance, measured=at % 7 != 6)
                shelf.commit(f"{owner}/{name}", {**files, "recipe.toml": b"steps = 50\n"}, "First try")
                revision = shelf.commit(f"{owner}/{name}", {**files, "recipe.toml": b"steps = 60\n"}, "Learn longer")
                card = files["README.md"].decode()
                entry = describe(
                    f"{owner}/{name}", revision, manifest, private=at == count - 1, updated_at=1.79e9 + at * 3600,
                    evidence=evidence, card=card,
                )  # fmt: skip
            else:
                gain = chance.gauss(0.03, 0.05)
                entry = replace(entry, repo_id=f"{owner}/{name}", name=name, dataset=dataset, gain=gain,
                                gain_low=gain - 0.02, gain_high=gain + 0.02, updated_at=1.79e9 + at)  # fmt: skip
            catalogue.put(entry, connection)
    app = FastAPI()

    def identify(request):
        name = request.headers.get("x-test-user")
        return accounts.viewer(name)

    app.include_router(catalogue_routes.build_router(catalogue, shelf, identify))
    app.include_router(pages.build_router(catalogue, shelf, accounts, "a secret for tests", secure=False))
    return app, catalogue, shelf, accounts


def sigmoid(value):
    """For expectations."""
    return 1 / (1 + math.exp(-value))
