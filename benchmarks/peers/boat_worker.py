"""boat-torch's side of hypercleaning.py, run by it in an environment of boat's own: arrays in, weights and seconds out.

``python boat_worker.py IN.npz OUT.npz MODEL SOLVER STEPS``
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
OUTER_LR, LOWER_LR = 0.3, {"linear": 0.3, "cbr": 0.05}

# The solvers: gradient mapping, numerical approximation, first-order method.
SOLVERS = {
    "NGD + RAD": (["NGD"], ["RAD"], None),
    "NGD + RAD + RGT": (["NGD"], ["RAD", "RGT"], None),
    "NGD + NS": (["NGD"], ["NS"], None),
    "NGD + CG": (["NGD"], ["CG"], None),
    "VSO": (None, None, "VSO"),
    "MESO": (None, None, "MESO"),
}


class Weights(nn.Module):
    """The upper model: a logit for each training example."""

    def __init__(self, size):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size))


def lower_loss(feed, upper, model, **parameters):
    """The weighted training loss; boat hands other ``params`` to higher's functional model."""
    losses = nn.functional.cross_entropy(model(feed["data"], **parameters), feed["target"], reduction="none")
    return (torch.sigmoid(upper.logits[feed["rows"]]) * losses).mean()


def upper_loss(feed, _upper, model, **parameters):
    """The validation loss."""
    return nn.functional.cross_entropy(model(feed["data"], **parameters), feed["target"])


def main():
    from boat_torch import Problem
    from models import build

    source, target, kind, solver, steps = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arrays = {name: torch.from_numpy(value) for name, value in np.load(source).items()}
    size = len(arrays["train_targets"])
    model, upper = build(kind), Weights(size)
    gm, na, fo = SOLVERS[solver]
    lower_opt = torch.optim.SGD(model.parameters(), lr=LOWER_LR[kind])
    upper_opt = torch.optim.Adam(upper.parameters(), lr=OUTER_LR)
    inner = 30 if kind == "linear" else 10
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "fo_op": fo, "gm_op": gm, "na_op": na, "lower_level_model": model, "upper_level_model": upper,
            "lower_level_var": list(model.parameters()), "upper_level_var": list(upper.parameters()),
            "lower_level_opt": lower_opt, "upper_level_opt": upper_opt, "lower_iters": inner, "device": "cpu",
            "loss_log_path": f"{folder}/loss.json", "accumulate_grad": False, "return_grad": False,
            "copy_last_param": kind != "linear", "fo_ol_batch_input": False,
            "GDA": {"alpha_init": 0.0, "alpha_decay": 0.5},
            "RGT": {"truncate_iter": inner - 5 if "RGT" in (na or []) else 0},
            "NS": {"k": 5}, "CG": {"k": 5, "tolerance": 1e-10}, "FD": {"r": 1e-2},
            "VSO": {
                "z_loop": 5, "ll_l2_reg": 0.1, "ul_l2_reg": 0.01, "ul_ln_reg": 10.0, "reg_decay": 1.1, "z_lr": 0.1,
            },
            "MESO": {"eta": 1.0, "gamma_1": 1.0, "c0": 0.1, "y_hat_lr": 0.1},
        }  # fmt: skip
        here = "__main__"
        losses = {
            "lower_level_loss": {"function": f"{here}.lower_loss", "params": {}},
            "upper_level_loss": {"function": f"{here}.upper_loss", "params": {}},
        }
        problem = Problem(config, losses)
        problem.build_ll_solver()
        problem.build_ul_solver()
        generator = torch.Generator().manual_seed(0)
        batch = size if kind == "linear" else 500
        began = time.process_time()
        for step in range(int(steps)):
            rows = torch.randperm(size, generator=generator)[:batch]
            held = torch.randperm(len(arrays["held_targets"]), generator=generator)[:batch]
            problem.run_iter(
                {"data": arrays["train_inputs"][rows], "target": arrays["train_targets"][rows], "rows": rows},
                {"data": arrays["held_inputs"][held], "target": arrays["held_targets"][held]},
                current_iter=step,
            )
        seconds = time.process_time() - began
    np.savez(target, weights=torch.sigmoid(upper.logits).detach().numpy(), seconds=seconds)


if __name__ == "__main__":
    main()
