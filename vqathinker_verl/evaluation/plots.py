"""Pictures of the report, each a data address that needs no other file."""

import io
from pathlib import Path

import numpy as np

from vqathinker_verl.evaluation.results import BenchmarkResult
from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.frames.pictures import data_address, jpeg_address

# More points than this are drawn as a picture inside the drawing: a file of a few kB instead of megabytes.
VECTOR_POINTS = 500
FRAMES_SHOWN = 4
FRAME_PIXELS = 160 * 120


def scatter(result: BenchmarkResult) -> str:
    """Return predictions against MOS with the fitted curve, as an SVG's data address.

    Inside an image element an SVG runs no scripts and loads nothing, and its ids cannot meet another's.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # The same figures give the same bytes; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": result.name, "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(4.2, 3.4), layout="constrained")
        many = len(result.pred) > VECTOR_POINTS
        axes.scatter(
            result.pred,
            result.mos,
            s=4 if many else 14,
            alpha=0.35 if many else 0.7,
            linewidths=0,
            color="#2b6cb0",
            rasterized=many,
        )
        if result.fit.converged:
            x = np.linspace(result.pred.min(), result.pred.max(), 200)
            axes.plot(x, result.fit(x), color="#c05621", linewidth=1.8, label="logistic fit")
            axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)  # above the points
        axes.set(xlabel="pred_mos", ylabel="MOS")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", dpi=150, metadata={"Date": None})
        pyplot.close(figure)
    return data_address("image/svg+xml", file.getvalue())


def frame_strip(path: Path, *, timeout_seconds: float) -> str:
    """Return a few frames of a video side by side, as a JPEG's data address.

    Raises:
        VideoError: The video cannot be decoded.
    """
    from PIL import Image

    video = decode(path, FrameSpec(FRAMES_SHOWN, max_pixels=FRAME_PIXELS, factor=2), timeout_seconds=timeout_seconds)
    picture = Image.fromarray(np.concatenate(list(video.frames.transpose(0, 2, 3, 1)), axis=1))
    return jpeg_address(picture)
