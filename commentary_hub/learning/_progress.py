"""What a learning run tells while it runs: a bar in the terminal, TensorBoard scalars, or a caller's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


@dataclass(frozen=True, slots=True)
class Report:
    """One outer step: ``step`` of ``steps`` is done; losses are means over the population."""

    step: int
    steps: int
    outer_loss: float
    hypergradient_norm: float
    residual: float | None = None


Progress = Callable[[Report], None]


@contextmanager
def progress_bar(progress: bool | Progress, steps: int) -> Iterator[Progress]:  # noqa: FBT001 - True asks for the bar
    """The function that is called after every outer step: the caller's, a bar's, or one that does nothing."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda _report: None
        return
    columns = (
        TextColumn("learning"), BarColumn(), MofNCompleteColumn(), TextColumn("outer loss {task.fields[loss]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns) as bar:
        task = bar.add_task("learning", total=steps, loss="–")

        def show(report: Report) -> None:
            bar.update(task, completed=report.step, loss=f"{report.outer_loss:.4f}")

        yield show


def tensorboard(writer: Any) -> Progress:
    """A progress function that writes scalars to a `torch.utils.tensorboard.SummaryWriter`.

    ``learn(..., progress=tensorboard(SummaryWriter("runs/digits")))``
    """

    def write(report: Report) -> None:
        writer.add_scalar("commentary/outer_loss", report.outer_loss, report.step)
        writer.add_scalar("commentary/hypergradient_norm", report.hypergradient_norm, report.step)
        if report.residual is not None:
            writer.add_scalar("commentary/residual", report.residual, report.step)

    return write
