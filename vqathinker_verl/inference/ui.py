"""A page that scores the video or image dropped on it, or two side by side.

It shows score, reasoning, and the frames that the model sees.
"""

import html
import math
import os
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import VideoError, decode
from vqathinker_verl.frames.suffixes import IMAGE_SUFFIXES, is_image
from vqathinker_verl.inference.engines import Engine, EngineError
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.scoring import reasoning_of, score_videos
from vqathinker_verl.prompts import SCORE_RANGE

# It reports its use to its makers unless told not to.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

# As many frames beside each other as fit, all of them in sight; no cutting of the video, which needs an FFmpeg program.
STYLE = """
.frames .grid-wrap { height: auto; min-height: 0; max-height: none; overflow: visible; padding-top: 2rem; }
.frames .grid-container { grid-template-columns: repeat(auto-fit, minmax(110px, 1fr)) !important; }
.video button[aria-label="Trim video to selection"], .video button[aria-label="Reset video to initial value"] {
  display: none;
}
.card { min-height: 9.5rem; padding: .5rem .25rem; overflow-wrap: anywhere; }
.card .number { font-size: 4.5rem; font-weight: 700; line-height: 1; }
.card .spread { font-size: 1.5rem; opacity: .7; margin-left: .5rem; }
.card .track { position: relative; height: .9rem; margin: .6rem 0 .2rem; border-radius: .45rem;
  background: linear-gradient(90deg, #d73027, #fee08b, #1a9850); }
.card .band { position: absolute; top: 0; bottom: 0; background: #fff8; }
.card .marker { position: absolute; top: -.25rem; bottom: -.25rem; width: .35rem; margin-left: -.175rem;
  border-radius: .2rem; background: currentColor; outline: 2px solid var(--background-fill-primary); }
.card .ends { display: flex; justify-content: space-between; opacity: .8; }
.card .error { color: #d73027; font-size: 1.1rem; }
"""
WAITING = '<div class="card">Drop a video or an image: it is scored at once.</div>'
SCORING = '<div class="card">Scoring …</div>'


def build_page(engine: Engine, model: str, *, prompt: str | None = None, samples: int | None = None) -> Any:
    """The page, a `gradio.Blocks`; `launch()` serves it.

    Model and file may contain any text: all of it is shown as text, never as HTML.

    Args:
        engine: Answers one video at a time.
        model: What to call the model.
        prompt: The question; None: the model's own.
        samples: Responses per video; None: the model's own number.
    """
    import gradio

    def rate(path: str | None) -> tuple[Any, str, str]:
        if path is None:
            return None, WAITING, ""
        try:
            frames, line = score_one(engine, Path(path), prompt=prompt, samples=samples)
        except (VideoError, EngineError) as error:
            return None, error_card(str(error).replace(path, Path(path).name)), ""
        return frames, score_card(line), reasoning_of(line.response or "")

    def clear(path: str | None) -> tuple[Any, str, str]:
        return None, WAITING if path is None else SCORING, ""

    def side(name: str) -> None:
        with gradio.Tab("Video"):
            video = gradio.Video(
                label="Video", sources=["upload"], height=320, elem_id=f"video{name}", elem_classes="video"
            )
        with gradio.Tab("Image", elem_id=f"image_tab{name}"):
            # gradio's own component for images reads the file before we do, and knows fewer kinds.
            image = gradio.File(
                label="Still image", file_types=sorted(IMAGE_SUFFIXES), height=320, elem_id=f"image{name}"
            )
        card = gradio.HTML(WAITING, elem_id=f"score{name}")
        reasoning = gradio.Textbox(label="Reasoning", lines=4, elem_id=f"reasoning{name}")
        frames = gradio.Gallery(
            label="The frames that the model sees",
            height="auto",
            object_fit="contain",
            format="png",
            elem_id=f"frames{name}",
            elem_classes="frames",
        )
        outputs = [frames, card, reasoning]
        # Nothing of an earlier video stays beside a new one. Engines in this process are not made for threads.
        for given in (video, image):
            given.change(clear, given, outputs, queue=False).then(
                rate, given, outputs, concurrency_limit=1, concurrency_id="engine", show_progress="hidden"
            )

    with gradio.Blocks(title="VQAThinker", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.Markdown("# Video quality")
        gradio.Textbox(model, label="Model", interactive=False, max_lines=1)
        compare = gradio.Checkbox(False, label="Compare with a second video", elem_id="compare")
        with gradio.Row():
            with gradio.Column(min_width=300):
                side("")
            with gradio.Column(min_width=300, visible=False) as second:
                side("2")
        compare.change(lambda shown: gradio.update(visible=shown), compare, second, queue=False)
    return page


def serve(page: Any, host: str, port: int) -> None:
    """Serve a page until interrupted, with the system's fonts: gradio's own are fetched from elsewhere.

    Raises:
        OSError: The port is taken.
    """
    import gradio

    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    page.launch(
        server_name=host, server_port=port, theme=theme, css=STYLE, footer_links=[], share=False, inbrowser=False,
        quiet=True,
    )  # fmt: skip


def score_one(
    engine: Engine, video: Path, *, prompt: str | None = None, samples: int | None = None
) -> tuple[list[tuple[Any, str]], Prediction]:
    """Frames (H, W, 3) with their captions, and the prediction (see `scoring`), of one video or still image.

    Raises:
        VideoError: The video cannot be used.
        EngineError: The engine cannot answer.
    """
    shown = decode(video, engine.frames)
    (line,) = score_videos({video.name: video}, engine, prompt=prompt, samples=samples)
    if line.error is not None:
        raise VideoError(line.error)
    if is_image(video):
        return [(shown.frames[0].transpose(1, 2, 0), "the image")], line
    seconds = shown.indices / shown.fps
    frames = [
        (frame.transpose(1, 2, 0), f"{second:.2f} s") for frame, second in zip(shown.frames, seconds, strict=True)
    ]
    return frames, line


def score_card(line: Prediction) -> str:
    """The score as HTML: a large number, its spread, and its place between the lowest and the highest."""
    name = html.escape(line.video_id)
    if not line.scored:
        return error_card(f"{line.video_id}: no score, the response holds no valid answer")
    lowest, highest = SCORE_RANGE
    score, spread = line.pred_mos, line.pred_mos_std

    def place(value: float) -> float:
        return 100 * (min(max(value, lowest), highest) - lowest) / (highest - lowest)

    beside, band = "", ""
    if line.samples is not None:
        known = sum(not math.isnan(one) for one in line.samples)
        beside = "" if math.isnan(spread) else f"± {spread:.2f}, "
        beside = f'<span class="spread">{beside}mean of {known} answers</span>'
    if not math.isnan(spread):
        left, right = place(score - spread), place(score + spread)
        band = f'<div class="band" style="left: {left:.1f}%; width: {right - left:.1f}%"></div>'
    return (
        f'<div class="card"><div><span class="number">{score:.2f}</span>{beside}</div>'
        f'<div class="track">{band}<div class="marker" style="left: {place(score):.1f}%"></div></div>'
        f'<div class="ends"><span>{lowest:g} very poor</span><span>{highest:g} excellent</span></div>'
        f"<div>{name}</div></div>"
    )


def error_card(message: str) -> str:
    """An error as HTML that stays until the next video, in place of the score."""
    return f'<div class="card"><div class="error">{html.escape(message)}</div></div>'
