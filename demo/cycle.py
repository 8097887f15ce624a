"""The whole cycle on real handwritten digits: learn, save, push, find, pull, reuse, evidence. Run by ``make demo``.

Half of the training labels are wrong in the way annotators are wrong (each mistaken digit bears the next class's
label), and 50 examples are trusted. Nobody tells the learner which labels are wrong; the weights it learns do.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score

from commentary_hub import data

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("commentary-hub")
REPO = "demo/digits-weights"
TOKEN = "hf_demo_of_the_whole_cycle"  # noqa: S105 - of a hub that lives for this demo, on this machine only
SIZES = {"noisy": 1_097, "trusted": 50, "selection": 150, "test": 500}


def main() -> None:
    """Run the cycle; prints every step, the table, and where everything lies."""
    torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)))
    started = time.monotonic()
    say("1  data", "scikit-learn's digits; half of the training labels are made wrong, 50 examples are trusted")
    parts = data.split_examples(data.open_examples("sklearn:digits"), SIZES, seed=0)
    noisy, mistaken = data.corrupt_labels(parts["noisy"], 0.5, noise="pairwise", seed=0)

    say("2  learn", "a weight for every example, by exact backpropagation through 60 steps of training")
    learned = learn(noisy, parts["trusted"])
    noise_auroc = float(roc_auc_score(~mistaken, learned.commentary.values()[:, 0]))
    print(f"   AUROC of the weights against the true mistakes: {noise_auroc:.3f}")
