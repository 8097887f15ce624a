"""The whole cycle on real handwritten digits: learn, save, push, find, pull, reuse, evidence. Run by ``make demo``.

Half of the training labels are wrong in the way annotators are wrong (each mistaken digit bears the next class's
label), and 50 examples are trusted. Nobody tells the learner which labels are wrong; the weights it learns do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import HfApi
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from commentary_hub import artefact, insight, recipes
from commentary_hub.manifest import MANIFEST_NAME, Evidence, artefact_files

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("commentary-hub")
DATASET = "sklearn:digits"
REPO = "demo/digits-weights"
TOKEN = "hf_demo_of_the_whole_cycle"  # noqa: S105 - of a hub on this machine's loopback
MADE = ("artefact", "pulled", "plots")
console = Console(highlight=False)


def main() -> None:
    """Run the cycle; prints every step, the table, and where everything lies."""
    torch.set_num_threads(1)  # the networks are so small that a second thread costs more than it brings
    started = time.monotonic()
    for name in MADE:
        shutil.rmtree(HERE / name, ignore_errors=True)
    recipe_file = HERE / "digits.toml"
    recipe = recipes.Recipe.read(recipe_file)

    say("learn", "a weight for each of 1,097 digits, half of them mislabelled, from 50 trusted ones")
    recipes.run(recipe, HERE / "artefact", recipe_toml=recipe_file.read_text(), progress=True, resume=False)
    examples = recipes.open_parts(recipe.data).train
    artefact.attach(HERE / "artefact", plots=insight.pictures(artefact.load(HERE / "artefact"), examples))

    with hub() as endpoint:
        say("push", f"to a hub of your own at {endpoint}, with huggingface_hub unmodified")
        console.print(f"   {REPO} @ {push(endpoint, 'Push what was learned')[:12]}")

        say("find", f"by dataset, over REST: GET /api/commentaries?dataset={DATASET}")
        console.print(f"   found {', '.join(find(endpoint))}")

        say("pull", "in another process, into another folder, every digest checked")
        pulled = pull(endpoint, HERE / "pulled")

        say("reuse", "new students, one of an architecture that learning never met, against tuned controls")
        evidence = evaluate(artefact.load(pulled))

        say("evidence", "attached to the artefact, pushed as a new revision")
        artefact.attach(HERE / "artefact", evidence=evidence, plots={"evidence.png": insight.comparison(evidence)})
        revision = push(endpoint, "Attach evidence")

    shutil.copytree(HERE / "artefact" / "plots", HERE / "plots")
    results = summary(evidence, revision)
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    show(evidence, results)
    console.print(
        f"\nDone in {time.monotonic() - started:.0f} s: demo/results.json, demo/plots/*.png, demo/artefact/README.md"
    )
    console.print("Browse it:  make serve    (then open the address that it prints)")


def say(verb: str, what: str) -> None:
    """One step of the cycle."""
    console.print(f"\n[bold]{verb}[/]  {what}")


@contextmanager
def hub() -> Iterator[str]:
    """A hub over ``demo/hub`` (SQLite and a local folder) on a free port, and the user who pushes."""
    folder = HERE / "hub"
    shutil.rmtree(folder, ignore_errors=True)
    run("user", "add", "demo", "--token", TOKEN, "--data-dir", str(folder))
    log = folder / "server.log"
    with log.open("w") as errors:
        server = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--data-dir", folder], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert server.stdout is not None
        greeting = server.stdout.readline()  # "Commentary Hub on http://localhost:PORT (data in …)"
        if not greeting:
            raise SystemExit(f"the hub did not start: see {log}")
        yield next(word for word in greeting.split() if word.startswith("http"))
    finally:
        server.terminate()
        server.wait(timeout=30)


def push(endpoint: str, message: str) -> str:
    """Push ``demo/artefact`` with the Hugging Face client alone, and say which revision it is."""
    folder = HERE / "artefact"
    api = HfApi(endpoint=endpoint, token=TOKEN)
    api.create_repo(REPO, repo_type="dataset", exist_ok=True)
    commit = api.upload_folder(
        repo_id=REPO, repo_type="dataset", folder_path=folder, commit_message=message,
        allow_patterns=[*artefact_files(folder), MANIFEST_NAME],
    )  # fmt: skip
    return str(commit.oid)


def find(endpoint: str) -> list[str]:
    """Repositories with a commentary for the dataset, by plain HTTP."""
    query = urllib.parse.urlencode({"dataset": DATASET})
    with urllib.request.urlopen(f"{endpoint}/api/commentaries?{query}") as reply:
        answer = json.load(reply)
    return [one["id"] for one in answer["items"]]


def pull(endpoint: str, folder: Path) -> Path:
    """Pull with the command line, as another person on another machine would."""
    run("pull", REPO, "--out", str(folder), environment={"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"})
    return folder


def run(*arguments: str, environment: dict[str, str] | None = None) -> None:
    """Run ``commentary-hub`` in a process of its own; its failure is the demo's."""
    done = subprocess.run(
        [COMMAND, *arguments], env=os.environ | (environment or {}), stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise SystemExit(f"commentary-hub {' '.join(arguments)} failed: see the line above")


def evaluate(stored: artefact.StoredCommentary) -> Evidence:
    """Every arm of the recipe's evaluation, with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=None)
        return recipes.evaluate(
            stored,
            progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
        )


def summary(evidence: Evidence, revision: str) -> dict[str, object]:
    """What ``demo/results.json`` holds: fractions, and counts of seeds."""
    return {
        "dataset": DATASET,
        "repo": REPO,
        "revision": revision,
        "noise_auroc": evidence.detection["weights_auroc"],
        "cleanlab_auroc": evidence.detection["cleanlab_auroc"],
        "rows": [
            {
                "student": one.student,
                "control": one.control,
                "accuracy_mean": one.accuracy_mean,
                "accuracy_ci95": list(one.accuracy_ci95),
                "seeds": one.runs,
                "steps_to_80": one.steps_to_target,
                "commentary_minus_this_ci95": None if one.difference_ci95 is None else list(one.difference_ci95),
            }
            for one in evidence.measurements
        ],
    }


def show(evidence: Evidence, results: dict[str, object]) -> None:
    """The table, the mistakes found, and the verdict."""
    table = Table("student", "trained with", "test accuracy (95 % interval)", "commentary minus this", "steps to 80 %")
    for one in evidence.measurements:
        low, high = one.accuracy_ci95
        difference = ""
        if one.difference_mean is not None and one.difference_ci95 is not None:
            difference = f"{one.difference_mean:+.1%} ({one.difference_ci95[0]:+.1%} to {one.difference_ci95[1]:+.1%})"
        steps = "never" if one.steps_to_target is None else f"{one.steps_to_target:.0f}"
        style = "bold" if one.control == "commentary" else ""
        accuracy = f"{one.accuracy_mean:.1%} ({low:.1%} to {high:.1%})"
        table.add_row(one.student, one.control, accuracy, difference, steps, style=style)
    console.print(table)
    console.print(
        f"Mistaken labels found, AUROC: weights {results['noise_auroc']:.3f}, cleanlab {results['cleanlab_auroc']:.3f}"
    )
    console.print(evidence.summary)


if __name__ == "__main__":
    main()
