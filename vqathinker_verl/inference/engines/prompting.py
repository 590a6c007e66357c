"""From a request to what the model reads: the frames, the chat template, the processor, as in training.

`vqathinker_verl.plugin.dataset` and verl's agent loop do the same; tests/inference/test_same_input.py holds
the two against each other, token by token and pixel by pixel. Not imported from there: that room needs verl.
"""

import dataclasses
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import DecodedVideo, FrameSpec, VideoError, decode
from vqathinker_verl.frames.positions import QWEN2_5_VL, check_versions
from vqathinker_verl.frames.tensors import Video, at_24_fps, frames_and_metadata, temporal_patch, vllm_times
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, EngineError, Request
from vqathinker_verl.inference.engines.expectation import character_tokens
from vqathinker_verl.inference.engines.frame_array import FrameArray
from vqathinker_verl.seeding import seed_from

logger = logging.getLogger(__name__)

DECODERS = 2  # videos decoded at the same time, while the model works on earlier ones
DECODE_SECONDS = 60.0


class Prompting:
    """The processor of one model, and the frames that it is shown.

    Args:
        model: Hugging Face folder or name.
        frames: What to show; its `factor` and `image_frames` are replaced by the model's own.
        answer_prefix: What every response begins with; the model continues from there.
        system: What the system says before the question; "": what the chat template says.

    Raises:
        EngineError: There is no processor for videos under `model`, or an installed package handles the times of frames
            in a way that is not known.
    """

    def __init__(self, model: str, frames: FrameSpec, answer_prefix: str = "", system: str = "") -> None:
        self.model = model
        self.processor = load_processor(model)
        self.model_type = model_type(model)
        self.frames = of_the_model(frames, self.processor)
        self.answer_prefix = answer_prefix
        self.system = system
        self.times = FrameTimes(model, self.model_type)

    def text(self, prompt: str, begin: str | None = None) -> str:
        """The chat around one prompt, and the response's `begin` (None: the prefix of every response).

        One placeholder stands for the video.
        """
        text = self.processor.apply_chat_template(chat(prompt, self.system), tokenize=False, add_generation_prompt=True)
        return str(text) + (self.answer_prefix if begin is None else begin)

    def features(self, prompt: str, video: DecodedVideo, begin: str | None = None) -> Any:
        """The processor's output for one prompt: token ids with a placeholder for each video token, and pixels."""
        frames, metadata = self.video(video)
        return self.processor(
            text=[self.text(prompt, begin)],
            images=None,
            videos=[frames],
            video_metadata=[metadata],
            do_sample_frames=False,  # they are sampled
            return_tensors="pt",
        )

    def characters(self) -> dict[str, int]:
        """The token of each character of a score.

        Raises:
            ValueError: The vocabulary joins them.
        """
        tokenizer = self.processor.tokenizer
        return character_tokens(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], self.model)

    def video(self, video: DecodedVideo) -> Video:
        """The frames, with the times that the model was trained with."""
        return self.times.of(video)


class FrameTimes:
    """Which times of the frames reach a model: the true ones, unless its export is older than they are.

    Args:
        model: Hugging Face folder or name.
        model_type: `model_type` of its config.

    Raises:
        EngineError: An installed package handles times in a way that is not known.
    """

    def __init__(self, model: str, model_type: str) -> None:
        self.model_type = model_type
        self.true = True
        if model_type != QWEN2_5_VL:
            return
        try:
            check_versions()
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        exported = Path(model, EXPORT_FILE)
        if exported.is_file() and not json.loads(exported.read_text(encoding="utf-8")).get("true_times", False):
            self.true = False
            logger.warning(
                "%s: trained before frames had their true times, so its frames count as 24 per second here too; train "
                "and export it again to use their times",
                model,
            )

    def of(self, video: DecodedVideo) -> Video:
        """The pair that processor and vLLM take."""
        pair = frames_and_metadata(video)
        return pair if self.true else at_24_fps(pair)

    def vllm(self, video: Video) -> dict[str, Any]:
        """`mm_processor_kwargs` of a vLLM request about `video`."""
        return vllm_times(self.model_type, [video])


def chat(prompt: str, system: str = "") -> list[dict[str, Any]]:
    """The chat messages that verl's dataset makes of `vqathinker_verl.prompts.video_messages(prompt)`.

    A system's text, which only presets have, comes first.
    """
    before = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*before, {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}]


def load_processor(model: str) -> Any:
    """The model's processor.

    Raises:
        EngineError: There is none, or it takes no videos.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{model}: no model can be loaded from there ({first_line(error)}); expected a Hugging Face folder or "
            "name, such as `vqathinker export` makes of a training checkpoint"
        ) from error
    if not hasattr(processor, "video_processor"):
        raise EngineError(f"{model}: its processor takes no videos; expected a model that does, such as a Qwen-VL")
    return processor


def model_type(model: str) -> str:
    """The name of the model's architecture, from its config; "" where there is none."""
    from transformers import AutoConfig

    try:
        return str(AutoConfig.from_pretrained(model).model_type)
    except (OSError, ValueError):
        return ""


def of_the_model(frames: FrameSpec, processor: Any) -> FrameSpec:
    """The frames with the model's own factor, read where verl and our dataset read it, and its temporal patch."""
    image_processor = getattr(processor, "image_processor", None)
    factor = int(getattr(image_processor, "patch_size", 14) * getattr(image_processor, "merge_size", 2))
    return dataclasses.replace(frames, factor=factor, image_frames=temporal_patch(processor))


def decode_ahead(
    requests: Sequence[Request], frames: FrameSpec, ahead: int
) -> Iterator[tuple[Request, DecodedVideo | VideoError]]:
    """Decode the requests' videos, at most `ahead` further than the caller has got; yields in their order.

    A video that several requests in a row are about is decoded once.
    """
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="frames") as executor:
        pending: deque[tuple[Request, Future[DecodedVideo]]] = deque()
        try:
            for request in requests:
                if request.decoded is not None:
                    pending.append((request, request.decoded))
                elif pending and pending[-1][0].video == request.video:
                    pending.append((request, pending[-1][1]))
                else:
                    pending.append((request, executor.submit(decoded_video, request.video, frames)))
                if len(pending) > ahead:
                    yield _result(*pending.popleft())
            while pending:
                yield _result(*pending.popleft())
        finally:  # the caller may stop early
            for request, future in pending:
                if request.decoded is None:
                    future.cancel()


def decoded_video(video: Path | FrameArray, frames: FrameSpec) -> DecodedVideo:
    """Return the frames of a file or of frames in memory that a model is shown.

    Raises:
        VideoError: The video cannot be used.
    """
    if isinstance(video, FrameArray):
        return video.decoded(frames)
    return decode(video, frames, timeout_seconds=DECODE_SECONDS)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which may be a page long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _result(request: Request, future: "Future[DecodedVideo]") -> tuple[Request, DecodedVideo | VideoError]:
    try:
        return request, future.result()
    except VideoError as error:
        return request, error


def request_seed(seed: int, prompt: str, video: DecodedVideo) -> int:
    """The seed of one request, in [0, 2^31): of its content, not of its place or of its file's name."""
    frames = hashlib.sha256(video.frames.tobytes()).hexdigest()
    return seed_from(seed, prompt, str(video.frames.shape), frames, bits=31)
