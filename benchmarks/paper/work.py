"""Where an experiment works: everything that is finished is kept, so that it goes on where it was stopped."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.paper.at_once import do_at_once
from benchmarks.paper.plan import Case, Plan
from benchmarks.paper.section import Section, Table
from commentary_hub import artefact, evidence, insight, recipes
from commentary_hub.artefact import StoredCommentary
from commentary_hub.data import LOCAL_COPIES
from commentary_hub.manifest import MANIFEST_NAME, Evidence, artefact_files
from commentary_hub.recipes import Parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PICTURE_BYTES = 200_000


class Work:
    """The working place of one experiment at one profile.

    ``folder`` holds artefacts, checkpoints and pieces; figures go to ``results``. Derived datasets are built once,
    below ``datasets``, which is among the folders of local copies. Reference commentaries go to ``cards``.
    """

    def __init__(
        self, name: str, profile: str, plan: Plan, *, root: Path, results: Path, device: str, cards: Path | None = None
    ) -> None:
        self.name, self.profile, self.plan, self.device = name, profile, plan, device
        self.folder = root / profile / name
        self.results = results / profile
        self.datasets = root / "datasets"
        self.cards = cards or root / profile / "cards"
        self._figures: list[tuple[str, str]] = []
        self._clock = _Clock(self.folder / "clock.json")
        self._measured = False

    def dataset(self, name: str, build: Callable[[Path], None]) -> None:
        """Have the derived dataset ``name`` (``owner/name``): ``build`` writes its parquet files into a new folder."""
        place = self.datasets / name
        if place.is_dir():
            return
        fresh = place.with_name(f".{place.name}.{os.getpid()}")
        fresh.mkdir(parents=True)
        build(fresh)
        fresh.rename(place)

    def learned(self, case: Case) -> StoredCommentary:
        """The case's commentary, learned if it is not yet."""
        folder = self.artefact_folder(case)
        if not (folder / MANIFEST_NAME).is_file():
            self.say(f"{case.name}: learning")
            recipes.run(case.recipe, folder, recipe_toml=case.toml, device=self.device)
        return artefact.load(folder)

    def evaluated(self, case: Case) -> StoredCommentary:
        """The case's commentary with its evidence, as the recipe's ``[evaluation]`` says.

        The first call measures the trials of all the plan's cases, at once where there are several cores.
        """
        if not self._measured:
            self.at_once([partial(self._measure, one, number) for one in self.plan.cases for number in _trials(one)])
            self._measured = True
        stored = self.learned(case)
        if stored.evidence is None:
            found = recipes.evaluate(stored, case.recipe, device=self.device, keep=self.folder / "kept")
            seconds = sum(self._measure(case, number)["seconds"] for number in _trials(case))
            found = found.model_copy(update={"cost_seconds": seconds})
            artefact.attach(self.artefact_folder(case), evidence=found)
            stored = artefact.load(self.artefact_folder(case))
        return stored

    def _measure(self, case: Case, number: int) -> dict[str, Any]:
        """Have trial ``number`` of the case's evaluation learned and measured; the seconds that comparing took."""

        def found() -> dict[str, Any]:
            stored, keep = self.learned(case) if not number else None, self.folder / "kept"
            compared = recipes.measure_trial(case.recipe, number, stored=stored, keep=keep, device=self.device)
            return {"seconds": compared.seconds}

        return self.kept(f"{case.name}: trial {number + 1} of {len(_trials(case))}", [case.toml, number], found)

    def at_once(self, jobs: Sequence[Callable[[], object]]) -> None:
        """Do ``jobs`` ahead, in processes of their own, as many at a time as there are cores; without a GPU alone.

        What a job keeps is found by whoever asks for it afterwards, also for what a failing job did not get done.
        """
        forks = sys.platform == "linux" and not torch.cuda.is_available()
        if forks and (workers := len(os.sched_getaffinity(0))) > 1:
            try:
                do_at_once(jobs, workers)
            finally:
                self._clock.stop()

    def learning_runs(self, case: Case) -> list[tuple[StoredCommentary, Parts]]:
        """Every commentary that the case's evaluation speaks of, with its examples; the first is `learned`."""
        section = case.recipe.evaluation
        count = 1 if section is None else section.learning_runs
        again = [recipes.learning_run(case.recipe, number, keep=self.folder / "kept", device=self.device)
                 for number in range(1, count)]  # fmt: skip
        return [(self.learned(case), recipes.open_parts(case.recipe.data)), *again]

    def artefact_folder(self, case: Case) -> Path:
        """Where the case's artefact lies: a changed recipe has another place."""
        return self.folder / "artefacts" / evidence.digest_of(case.toml)

    def kept(self, name: str, of: Any, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """``find()``, a JSON object, unless a run with the same ``name`` and ``of`` (JSON values) found it before."""
        pieces = evidence.PieceFolder(self.folder / "kept")
        key = evidence.digest_of(json.dumps([name, of], sort_keys=True))
        known = pieces.get(key)
        if known is None:
            self.say(name)
            known = find()
            pieces.put(key, known)
        return known

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Keep a figure (PNG, at most 200 kB) for the section; ``caption`` says what it shows."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", facecolor="white")
        self.picture(name, buffer.getvalue(), caption)

    def picture(self, name: str, content: bytes, caption: str) -> None:
        """Keep a picture that is PNG bytes already, such as insight's; at most 200 kB."""
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"{self.name}-{name}.png"
        if len(content) > MAX_PICTURE_BYTES:
            raise ValueError(f"{path} has {len(content):,} bytes: draw a simpler figure")
        path.write_bytes(content)
        self._figures.append((path.name, caption))

    def card(self, case: Case) -> None:
        """Make the case's commentary, with its evidence and pictures, a reference commentary in ``cards``."""
        stored = self.evaluated(case)
        self.put_card(stored, stored.evidence, insight.pictures(stored, recipes.open_parts(case.recipe.data).train))

    def put_card(
        self, stored: StoredCommentary, proof: Evidence | None, plots: Mapping[str, tuple[bytes, str]]
    ) -> None:
        """Make ``stored``, with evidence and pictures, a reference commentary in ``cards``.

        Verifications of the same tensors that lie there already are kept.
        """
        place = self.cards / stored.manifest.name
        before = artefact.load(place).evidence if (place / MANIFEST_NAME).is_file() else None
        if before is not None and proof is not None and before.tensor_digest == proof.tensor_digest:
            proof = proof.model_copy(update={"verifications": before.verifications})
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name in (*artefact_files(stored.folder), MANIFEST_NAME):
            (place / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(stored.folder / name, place / name)
        artefact.attach(place, evidence=proof, plots=plots)

    def section(
        self,
        *,
        outcome: str,
        verdict: str,
        tables: Sequence[Table],
        notes: Sequence[str] = (),
        remedies: Sequence[str] = (),
    ) -> Section:
        """The experiment's section: what is given, with the plan's words, the figures, the time and the machine."""
        plan = self.plan
        return Section(
            experiment=self.name,
            profile=self.profile,
            title=plan.title,
            question=plan.question,
            criterion=plan.criterion,
            outcome=outcome,
            verdict=verdict,
            tables=tables,
            figures=self._figures,
            notes=notes,
            remedies=remedies,
            seconds=self._clock.stop(),
            command=f"make paper PROFILE={self.profile}",
            hardware=evidence.hardware(self.device),
            versions=artefact.library_versions(),
        )

    def say(self, what: str) -> None:
        """A line of progress."""
        wall, _ = self._clock.stop()
        print(f"[{wall:7.1f} s] {self.name}: {what}", flush=True)


def _trials(case: Case) -> range:
    section = case.recipe.evaluation
    return range(0 if section is None else section.learning_runs)


class _Clock:
    """Seconds of wall and processor (of ended child processes too) over all runs of an experiment, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = json.loads(path.read_text()) if path.is_file() else [0.0, 0.0]
        self._began = time.monotonic(), _processor()
        self._process = os.getpid()

    def stop(self) -> tuple[float, float]:
        """Both sums until now; only the process that began keeps them, its jobs come in when they have ended."""
        wall = self._before[0] + time.monotonic() - self._began[0]
        processor = self._before[1] + _processor() - self._began[1]
        if os.getpid() == self._process:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps([wall, processor]))
        return wall, processor


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def among_local_copies(*folders: Path) -> None:
    """Have datasets looked for in these folders too, in this process."""
    known = os.environ.get(LOCAL_COPIES, "")
    os.environ[LOCAL_COPIES] = os.pathsep.join([*map(str, folders), *([known] if known else [])])
