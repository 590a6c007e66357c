"""A page to drop a video on: the frames that the model sees, its score and its reasoning."""

import os
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import VideoError, decode
from vqathinker_verl.inference.engines import Engine, EngineError
from vqathinker_verl.inference.scoring import score_videos
from vqathinker_verl.prompts import SCORE_RANGE

# It reports its use to its makers unless told not to.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

# As many frames beside each other as fit, all of them in sight; no cutting of the video, which needs an FFmpeg program.
STYLE = """
#frames .grid-wrap { height: auto; min-height: 0; max-height: none; overflow: visible; padding-top: 2rem; }
#frames .grid-container { grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)) !important; }
#video button[aria-label="Trim video to selection"], #video button[aria-label="Reset video to initial value"] {
  display: none;
}
"""


def build_page(engine: Engine, model: str) -> Any:
    """The page, a `gradio.Blocks`; `launch()` serves it.

    Model and file may say what they like: all of it is shown as text, never as HTML.

    Args:
        engine: Answers one video at a time.
        model: What to call the model.
    """
    import gradio

    def rate(path: str | None) -> tuple[Any, str, str]:
        if path is None:
            raise gradio.Error("Choose a video first.")
        try:
            return look_at(engine, Path(path))
        except (VideoError, EngineError) as error:
            raise gradio.Error(plain(error, path), duration=None, print_exception=False) from error

    with gradio.Blocks(title="VQAThinker", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.Markdown("# Video quality")
        gradio.Textbox(model, label="Model", interactive=False, max_lines=1)
        with gradio.Row():
            with gradio.Column(min_width=300):
                video = gradio.Video(label="Video", sources=["upload"], height=320, elem_id="video")
                button = gradio.Button("Score", variant="primary", elem_id="rate")
            with gradio.Column(min_width=300):
                low, high = SCORE_RANGE
                score = gradio.Textbox(label=f"Score ({low:g} very poor, {high:g} excellent)", elem_id="score")
                reasoning = gradio.Textbox(label="Reasoning", lines=6, elem_id="reasoning")
        frames = gradio.Gallery(
            label=f"The {engine.frames.num_frames} frames that the model sees",
            columns=6,
            height="auto",
            object_fit="contain",
            format="png",
            elem_id="frames",
        )
        # One at a time: engines in this process are not made for threads.
        button.click(rate, video, [frames, score, reasoning], concurrency_limit=1)
    return page


def serve(page: Any, host: str, port: int) -> None:
    """Serve a page until interrupted, with the system's fonts: gradio's own are fetched from elsewhere.

    Raises:
        OSError: The port is taken.
    """
    import gradio

    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    page.launch(
        server_name=host, server_port=port, theme=theme, css=STYLE, footer_links=[], share=False, inbrowser=False
    )


def look_at(engine: Engine, video: Path) -> tuple[list[tuple[Any, str]], str, str]:
    """Frames (H, W, 3) with their captions, the score and the reasoning, of one video.

    Raises:
        VideoError: The video cannot be used.
        EngineError: The engine cannot answer.
    """
    shown = decode(video, engine.frames)
    (line,) = score_videos({video.name: video}, engine)
    if line["error"] is not None:
        raise VideoError(line["error"])
    seconds = shown.indices / shown.fps
    frames = [
        (frame.transpose(1, 2, 0), f"{second:.2f} s") for frame, second in zip(shown.frames, seconds, strict=True)
    ]
    score = "none: the response holds no valid answer" if line["pred_mos"] is None else f"{line['pred_mos']:.2f}"
    return frames, score, reasoning_of(line["response"])


def reasoning_of(response: str) -> str:
    """What a response says before its answer; the whole response where it does not separate the two.

    >>> reasoning_of("<think>Sharp, some noise.</think><answer>3.50</answer>")
    'Sharp, some noise.'
    """
    thoughts, closed, _ = response.partition("</think>")
    return thoughts.removeprefix("<think>").strip() if closed else response


def plain(error: Exception, path: str) -> str:
    """An error's text for a page that renders messages as HTML: escaped, and without the server's own paths."""
    import html

    return html.escape(str(error).replace(path, Path(path).name))
