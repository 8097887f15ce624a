"""What a learning run tells while it runs: a bar in the terminal, TensorBoard scalars, or a caller's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
def showing(progress: bool | Progress | Sequence[bool | Progress], steps: int) -> Iterator[Progress]:  # noqa: FBT001
    """The function that is called after every outer step: what the caller gave, a bar's where that is ``True``."""
    chosen = progress if isinstance(progress, Sequence) else (progress,)
    with ExitStack() as stack:
        shows = [one if callable(one) else stack.enter_context(_bar(steps)) for one in chosen if one]

        def show(report: Report) -> None:
            for one in shows:
                one(report)

        yield show


@contextmanager
def _bar(steps: int) -> Iterator[Progress]:
    columns = (
        TextColumn("learning"), BarColumn(), MofNCompleteColumn(), TextColumn("outer loss {task.fields[loss]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns) as bar:
        task = bar.add_task("learning", total=steps, loss="–")
        yield lambda report: bar.update(task, completed=report.step, loss=f"{report.outer_loss:.4f}")


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
