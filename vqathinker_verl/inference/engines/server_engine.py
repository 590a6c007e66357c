"""Answers through an OpenAI-compatible server, such as `vllm serve`.

The server must see what training sees, so it gets the sampled and resized frames, not the file. vLLM takes frames as
the data URL `data:video/jpeg;base64,FRAME,FRAME,…` and opens each with Pillow, whatever its format: the frames are
sent as PNG, which loses nothing, where JPEG would change the very quality that is judged. `media_io_kwargs` says where
in the video they are and that none are to be left out. tests/inference/test_vllm_engines.py compares the token ids and
the scores with the offline engine's.
"""

import base64
import dataclasses
import io
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import DecodedVideo, FrameSpec, VideoError
from vqathinker_verl.frames.positions import QWEN2_5_VL
from vqathinker_verl.inference.engines.contract import (
    Answer,
    EngineError,
    ModelDefaults,
    Request,
    Sampling,
    check_samples,
)
from vqathinker_verl.inference.engines.prompting import (
    FrameTimes,
    decode_ahead,
    first_line,
    frame_factor,
    load_processor,
    model_type,
    request_seed,
)

CONCURRENT = 32  # requests under way; the server batches them
RETRIES = 4
SECONDS = 600.0  # for one request, waiting in the server's queue included


class ServerEngine:
    """A model behind an OpenAI-compatible server.

    Args:
        server: Address, with or without /v1 at its end. The environment's OPENAI_API_KEY is sent where it is set.
        model: The name under which the server has the model, or the folder that it was loaded from.
        frames: What to show. Their factor is the model's own where its folder is on this machine, else as given.
        sampling: How tokens are drawn.
        answer_prefix: What every response begins with.

    Raises:
        EngineError: The server does not answer, or has no such model.
    """

    defaults = ModelDefaults()

    def __init__(self, server: str, model: str, frames: FrameSpec, sampling: Sampling, *, answer_prefix: str) -> None:
        import openai

        address = server.rstrip("/").removesuffix("/v1") + "/v1"
        self.client = openai.OpenAI(
            base_url=address,
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            max_retries=RETRIES,
            timeout=SECONDS,
        )
        try:
            served = {
                card.id: getattr(card, "root", None) or card.id
                for card in self.client.with_options(max_retries=0).models.list()
            }
        except openai.OpenAIError as error:
            raise EngineError(f"{server}: no OpenAI-compatible server answers there ({first_line(error)})") from error
        names = [name for name, root in served.items() if model in (name, root)]
        if len(names) != 1:
            raise EngineError(
                f"{server}: it serves {', '.join(served) or 'nothing'}; expected --model to be one of these"
            )
        self.model = names[0]
        self.sampling = sampling
        self.answer_prefix = answer_prefix
        folder = served[self.model]
        self.frames = frames
        here = Path(folder, "config.json").is_file()
        if here:
            self.frames = dataclasses.replace(frames, factor=frame_factor(load_processor(folder)))
        # Elsewhere the name has to tell the architecture.
        kind = model_type(folder) if here else _model_type_by_name(folder)
        self.times = FrameTimes(folder, kind)

    def generate(self, requests: Sequence[Request], *, samples: int = 1) -> Iterator[Answer]:
        """See `Engine.generate`."""
        check_samples(samples, self.sampling)
        return self._generate(requests, samples)

    def _generate(self, requests: Sequence[Request], samples: int) -> Iterator[Answer]:
        with ThreadPoolExecutor(CONCURRENT, thread_name_prefix="requests") as executor:
            pending: deque[Future[Answer]] = deque()
            try:
                for request, video in decode_ahead(requests, self.frames, ahead=2):
                    pending.append(executor.submit(self._answer, request, video, samples))
                    if len(pending) >= CONCURRENT:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _answer(self, request: Request, video: DecodedVideo | VideoError, samples: int) -> Answer:
        import openai

        if isinstance(video, VideoError):
            return Answer((), str(video))
        try:
            completion = self.client.chat.completions.create(**self.arguments(request.prompt, video, samples))
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Answer((), f"{request.video}: the server refuses it ({first_line(error)})")
        except openai.OpenAIError as error:
            raise EngineError(f"{self.client.base_url}: {first_line(error)}") from error
        return Answer(tuple(self.answer_prefix + (choice.message.content or "") for choice in completion.choices))

    def arguments(self, prompt: str, video: DecodedVideo, samples: int) -> dict[str, Any]:
        """The request for one video. What is not OpenAI's own goes as `extra_body`."""
        content = [
            {"type": "video_url", "video_url": {"url": frames_url(video)}},
            {"type": "text", "text": prompt},
        ]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        extra: dict[str, Any] = {
            "media_io_kwargs": {
                "video": {
                    "num_frames": -1,  # all that are sent
                    "fps": video.fps,
                    "frames_indices": video.indices.tolist(),
                    "total_num_frames": video.total_frames,
                    "do_sample_frames": False,
                }
            },
            # Else the server takes them from the model's generation_config.json.
            "top_k": 0,
            "repetition_penalty": 1.0,
        }
        shown = self.times.of(video)
        if times := self.times.vllm(shown):
            extra["mm_processor_kwargs"] = times
        if self.answer_prefix:
            messages.append({"role": "assistant", "content": self.answer_prefix})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        return {
            "model": self.model,
            "messages": messages,
            "n": samples,
            "max_tokens": self.sampling.max_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "seed": request_seed(self.sampling.seed, prompt, video),
            "extra_body": extra,
        }


def _model_type_by_name(name: str) -> str:
    return QWEN2_5_VL if QWEN2_5_VL in re.sub(r"[-. ]", "_", name.lower()) else ""


def frames_url(video: DecodedVideo) -> str:
    """The frames as vLLM's data URL for frame sequences, each a PNG: the pixels arrive as they are."""
    return "data:video/jpeg;base64," + ",".join(_png(frame) for frame in video.frames)


def _png(frame: Any) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame.transpose(1, 2, 0)).save(buffer, "PNG", compress_level=1)  # smaller takes far longer
    return base64.b64encode(buffer.getvalue()).decode("ascii")
