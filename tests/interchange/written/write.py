"""Let AUM and TRAK write their files anew: ``python tests/interchange/written/write.py FOLDER``.

Needs ``pip install --no-deps aum==1.0.2 traker==0.3.2`` beside pandas; no test does. The model and its scores are the
same each time, so that a newer version of a tool shows what it writes otherwise.
"""

import shutil
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


def write_aum(folder):
    """Train one linear model and let AUM follow it; returns the model."""
    from aum import AUMCalculator

    torch.manual_seed(0)
    inputs, targets = digits()
    model = torch.nn.Linear(64, 10)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    calculator = AUMCalculator(str(folder))
    for _ in range(EPOCHS):
        for places in torch.randperm(SIZE).split(BATCH):
            logits = model(inputs[places])
            calculator.update(logits.detach(), targets[places], places.tolist())
            optimiser.zero_grad()
            functional.cross_entropy(logits, targets[places]).backward()
            optimiser.step()
    calculator.finalize()
    return model


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
    write_trak(write_aum(out), out)
