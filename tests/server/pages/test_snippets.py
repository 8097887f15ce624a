"""The snippets of every kind, as their pages hold them, run against a hub that listens."""

import html
import json
import os
import re
import subprocess
import sys

import pytest
from huggingface_hub.utils import get_session

from commentary_hub import hub as client
from commentary_hub.artefact import save
from commentary_hub.commentaries import AttentionMask, LabelBlend, MixtureWeights, SupportWeights, WeightNetwork
from commentary_hub.manifest import DatasetBinding, KeyScheme
from tests.server.hub.running import running

SIZE = 48
YOURS = """
import torch
from datasets import Dataset
from torch.utils.data import TensorDataset
dataset = TensorDataset(torch.rand(48, 1, 8, 8), torch.arange(48) % 3)
student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
before = student[1].weight.detach().clone()
parts = {name: Dataset.from_dict({"text": [name] * 50}) for name in ("news", "plays", "source code")}
learner, support_inputs, support_targets = student, torch.rand(6, 1, 8, 8).flatten(1), torch.arange(6) % 3
"""
TRAINED = "assert not torch.equal(next(p for p in student.parameters() if p.shape == before.shape), before)"
KINDS = {
    "weight_network": (
        lambda: WeightNetwork("mlp", settings={"inputs": 64, "hidden": [4]}, labels="index", classes=3),
        TRAINED,
    ),
    "label_blend": (lambda: LabelBlend(3), TRAINED),
    "attention_mask": (
        lambda: AttentionMask(channels=1, sigma=2.0, settings={"width": 2}),
        TRAINED + "\nassert student(dataset.tensors[0]).shape == (48, 3)",
    ),
    "mixture_weights": (
        lambda: MixtureWeights(["news", "plays", "source code"]),
        "assert {row['text'] for row in mixed} == set(parts)",
    ),
    "support_weights": (
        lambda: SupportWeights("mlp", {"inputs": 64, "hidden": [5], "classes": 3, "smooth": True}, hidden=4),
        "loss.backward()",
    ),
}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """The address of a hub with one commentary of each kind, and their pages by kind."""
    folder, pages = tmp_path_factory.mktemp("kinds"), {}
    binding = DatasetBinding(identity={"id": "some/pictures"}, rows=SIZE, key=KeyScheme(form="none"))
    with running(folder / "data") as hub:
        token = hub.token("ada")
        for kind, (make, _) in KINDS.items():
            save(folder / kind, make(), name=kind.replace("_", "-"), dataset=binding, loss_reduction="mean")
            url = client.push(folder / kind, f"ada/{kind}", endpoint=hub.url, token=token).url
            pages[kind] = get_session().get(url).text
        yield hub.url, pages


def test_the_python_on_every_kinds_page_runs(pushed, tmp_path):
    url, pages = pushed
    scripts = {}
    for kind, (_, check) in KINDS.items():
        found = re.search(r'<code id="snippet-(?:pytorch|datasets)"[^>]*>(.*?)</code>', pages[kind], re.DOTALL)
        scripts[kind] = "\n".join([YOURS, html.unescape(found[1]), check, f"print({kind!r})"])
    (tmp_path / "scripts.json").write_text(json.dumps(scripts))
    runner = f"import json\nfor one in json.load(open({str(tmp_path / 'scripts.json')!r})).values(): exec(one, {{}})"
    done = subprocess.run(
        [sys.executable, "-c", runner], capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "COMMENTARY_HUB_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == list(KINDS), done.stderr
