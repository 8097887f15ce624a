"""Let AUM, TRAK and dataset cartography write their files anew: ``python tests/interchange/written/write.py FOLDER``.

Needs ``pip install --no-deps aum==1.0.2 traker==0.3.2 seaborn==0.13.2`` beside pandas and matplotlib, and a checkout of
allenai/cartography (commit 6c43e86) on PYTHONPATH; no test does. The model and its scores are the same each time, so
that a newer version of a tool shows what it writes otherwise.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.nn import functional

SIZE, TARGETS, EPOCHS, BATCH = 40, 5, 4, 10


def digits():
    """The first 45 digits: inputs [45, 64] in [0, 1], and their classes."""
    found = load_digits()
    return torch.from_numpy(found.data[: SIZE + TARGETS]).float() / 16, torch.from_numpy(found.target[: SIZE + TARGETS])


def training():
    """Train one linear model: it, and (epoch, places, logits) of each batch before its step."""
    torch.manual_seed(0)
    inputs, targets = digits()
    model, batches = torch.nn.Linear(64, 10), []
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(EPOCHS):
        for places in torch.randperm(SIZE).split(BATCH):
            logits = model(inputs[places])
            batches.append((epoch, places, logits.detach()))
            optimiser.zero_grad()
            functional.cross_entropy(logits, targets[places]).backward()
            optimiser.step()
    return model, batches


def write_aum(batches, folder):
    """Let AUM follow the training."""
    from aum import AUMCalculator

    targets = digits()[1]
    calculator = AUMCalculator(str(folder))
    for _, places, logits in batches:
        calculator.update(logits, targets[places], places.tolist())
    calculator.finalize()


def write_cartography(batches, folder):
    """Log the training dynamics with cartography's own logger, and let its script compute the metrics."""
    from cartography.selection.selection_utils import log_training_dynamics

    targets = digits()[1]
    with tempfile.TemporaryDirectory() as place:
        for epoch in range(EPOCHS):
            order = torch.cat([places for number, places, _ in batches if number == epoch])
            logits = torch.cat([logits for number, _, logits in batches if number == epoch])
            log_training_dynamics(place, epoch, order.tolist(), logits.tolist(), targets[order].tolist())
        script = "cartography.selection.train_dy_filtering"
        subprocess.run([sys.executable, "-m", script, "--model_dir", place], check=True)
        shutil.copy(Path(place, "td_metrics.jsonl"), folder)


def write_trak(model, folder):
    """Attribute the loss on the next five digits to the forty."""
    from trak import TRAKer
    from trak.projectors import NoOpProjector

    inputs, targets = digits()
    with tempfile.TemporaryDirectory() as place:
        options = {"save_dir": place, "device": "cpu", "lambda_reg": 1.0, "use_half_precision": False}
        tracer = TRAKer(
            model=model,
            task="image_classification",
            train_set_size=SIZE,
            projector=NoOpProjector(device="cpu"),
            **options,
        )
        tracer.load_checkpoint(model.state_dict(), model_id=0)
        for places in torch.arange(SIZE).split(BATCH):
            tracer.featurize(batch=[inputs[places], targets[places]], num_samples=len(places))
        tracer.finalize_features()
        tracer.start_scoring_checkpoint(
            exp_name="digits", checkpoint=model.state_dict(), model_id=0, num_targets=TARGETS
        )
        tracer.score(batch=[inputs[SIZE:], targets[SIZE:]], num_samples=TARGETS)
        tracer.finalize_scores(exp_name="digits")
        shutil.copy(Path(place, "scores", "digits.mmap"), folder / "trak_digits.mmap")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    trained, logged = training()
    write_aum(logged, out)
    write_cartography(logged, out)
    write_trak(trained, out)
