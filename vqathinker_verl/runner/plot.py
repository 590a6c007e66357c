"""Draw OUTPUT_DIR/plots/training.png in a separate process: `python -m vqathinker_verl.runner.plot OUTPUT_DIR`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vqathinker_verl.files import write_atomically
from vqathinker_verl.runner.metrics_log import COMPONENTS, Metrics, read_metrics, series, sources_of, validation_number

DRAW_SECONDS = 120.0  # importing matplotlib on a busy machine


def draw(metrics: Metrics, output_dir: Path) -> Path:
    """Draw the reward components and the validation correlations against steps; returns the picture's path.

    The picture is replaced when it is complete, so that a viewer never sees a part of it.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder = output_dir / "plots"
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in (*COMPONENTS[1:], COMPONENTS[0]):
        values = series(metrics, f"reward/{name}")
        left.plot(list(values), list(values.values()), label=name)
    left.set(xlabel="step", ylabel="mean over the batch", title="Rewards")
    left.set_ylim(0, 1.3 * left.get_ylim()[1])  # room for the legend
    left.legend(fontsize="small", ncols=3, loc="upper center")
    for source in sorted({source for data in metrics.values() for source in sources_of(data)}):
        validated = {step: data for step, data in metrics.items() if source in sources_of(data)}
        for name, label, style in (("srcc", "SRCC", "-o"), ("plcc_raw", "PLCC raw", "--s")):
            values = {step: validation_number(data, source, name) for step, data in validated.items()}
            right.plot(list(values), list(values.values()), style, label=f"{source} {label}")
    right.axhline(0.0, color="grey", linewidth=0.5)
    right.set(xlabel="step", ylabel="correlation with MOS", title="Validation", ylim=(-1, 1))
    if right.lines[:-1]:
        right.legend(fontsize="small", loc="lower right")
    path = folder / "training.png"
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=110, format="png"))
    pyplot.close(figure)
    return path


class Plotter:
    """Redraws the picture in the background; a drawing that is still at work is not disturbed.

    Args:
        output_dir: OUTPUT_DIR of the run.
        log: gets what a failed drawing prints.
        report: is called with a message if a drawing cannot be started.
    """

    def __init__(self, output_dir: Path, log: Path, report: Callable[[str], None]) -> None:
        self._output_dir, self._log, self._report = output_dir, log, report
        self._process: subprocess.Popen[bytes] | None = None

    def redraw(self) -> None:
        """Start a drawing, unless one is at work."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [sys.executable, "-m", "vqathinker_verl.runner.plot", str(self._output_dir)]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            self._report(f"plots/training.png was not drawn: {error}")

    def finish(self) -> None:
        """Draw once more with everything, and wait for it, but not without end."""
        for again in (False, True):
            if again:
                self.redraw()
            if self._process is not None:
                try:
                    self._process.wait(timeout=DRAW_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    return


if __name__ == "__main__":
    os.nice(10)
    folder = Path(sys.argv[1])
    draw(read_metrics(folder), folder)
