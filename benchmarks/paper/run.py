"""The paper's experiments, each measured here: ``python benchmarks/paper/run.py --profile cpu|full [--only NAME ...]``.

``make paper PROFILE=cpu`` runs all and writes RESULTS.md. Finished pieces, learned commentaries and checkpoints are
kept in ``--work`` (default ``benchmarks/paper/work``): a run that is stopped, by Ctrl-C or by a time limit, goes on
where it was with the same command. ``--data`` names a folder with local copies of the datasets in the Hub's layout;
without it (and without COMMENTARY_HUB_DATASETS) they come from the Hub.

To add an experiment: a folder ``benchmarks/paper/<name>/`` with ``experiment.py``, which has
``def run(work: Work) -> Section`` (see `benchmarks.paper.work.Work`: ``work.plan`` is what was fixed before,
``work.evaluated(case)`` learns and evaluates a case, ``work.kept`` keeps anything else that took long,
``work.figure`` takes figures, ``work.card`` makes a case's commentary a reference commentary, ``work.section`` makes
the result), and two plans, ``cpu.toml`` and ``full.toml`` (see
`benchmarks.paper.plan`), with the recipes that they name; then its name in EXPERIMENTS below.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import torch  # noqa: E402

from benchmarks.paper.plan import Plan  # noqa: E402
from benchmarks.paper.report import write_report  # noqa: E402
from benchmarks.paper.work import Work, among_local_copies  # noqa: E402
from commentary_hub.errors import Interrupted  # noqa: E402

EXPERIMENTS = (
    "noisy_labels",
    "masks",
    "blending",
    "curriculum",
    "rotated",
    "few_shot",
    "text",
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=("cpu", "full"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--data", type=Path, help="local copies of the datasets, <owner>/<name>/…parquet")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="where unfinished work is kept")
    parser.add_argument("--results", type=Path, default=HERE, help="the folder of RESULTS.md and results/")
    parser.add_argument("--cards", type=Path, help="put the reference commentaries here (default: below --work)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    if options.device == "cpu":
        torch.set_num_threads(1)  # small networks gain nothing from more, and a number is the same on every machine
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit is an orderly end
    among_local_copies(options.work / "datasets", *([options.data] if options.data else []))
    results = options.results / "results"
    try:
        for name in options.only or EXPERIMENTS:
            plan = Plan.read(HERE / name / f"{options.profile}.toml")
            places = {"root": options.work, "results": results, "cards": options.cards}
            work = Work(name, options.profile, plan, device=options.device, **places)
            section = importlib.import_module(f"benchmarks.paper.{name}.experiment").run(work)
            section.save(results / options.profile / f"{name}.json")
            print(section.markdown(EXPERIMENTS.index(name) + 1), flush=True)
    except (KeyboardInterrupt, Interrupted):
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    write_report(options.results / "RESULTS.md", HERE, EXPERIMENTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
