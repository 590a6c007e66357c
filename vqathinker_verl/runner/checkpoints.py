"""Choose the checkpoint to export: that of a step, or that of the best validation."""

import math
from pathlib import Path

from vqathinker_verl.runner.metrics_log import best_step, mean_srcc, read_metrics


class NoCheckpointError(ValueError):
    """There is no such checkpoint; the message says which there are."""


def saved_steps(output_dir: Path) -> list[int]:
    """Steps whose checkpoint is in OUTPUT_DIR/checkpoints, in their order."""
    names = [path.parent.name for path in (output_dir / "checkpoints").glob("global_step_*/actor")]
    return sorted(int(name.removeprefix("global_step_")) for name in names if name[12:].isdigit())


def checkpoint_of(output_dir: Path, step: int) -> Path:
    """The checkpoint of one step.

    Raises:
        NoCheckpointError: there is none.
    """
    saved = saved_steps(output_dir)
    if step not in saved:
        steps = ", ".join(map(str, saved)) or "none"
        raise NoCheckpointError(f"{output_dir}: no checkpoint of step {step}; steps with a checkpoint: {steps}")
    return output_dir / "checkpoints" / f"global_step_{step}"


def best_checkpoint(output_dir: Path) -> tuple[Path, str]:
    """The checkpoint whose validation has the highest SRCC (mean over the data sources), and a line that says so.

    Raises:
        NoCheckpointError: no validation with a defined SRCC has a checkpoint.
    """
    metrics, saved = read_metrics(output_dir), saved_steps(output_dir)
    step = best_step({step: data for step, data in metrics.items() if step in saved})
    if step is None:
        steps = ", ".join(map(str, saved)) or "none"
        raise NoCheckpointError(
            f"{output_dir}: no validation with an SRCC has a checkpoint (steps with a checkpoint: {steps}); "
            "choose one with --step"
        )
    message = f"step {step}, held-out SRCC {mean_srcc(metrics[step]):.3f}"
    overall = best_step(metrics)
    if (
        overall is not None
        and overall != step
        and not math.isclose(mean_srcc(metrics[overall]), mean_srcc(metrics[step]))
    ):
        message += f"; the best validation (step {overall}, SRCC {mean_srcc(metrics[overall]):.3f}) has no checkpoint"
    return checkpoint_of(output_dir, step), message
