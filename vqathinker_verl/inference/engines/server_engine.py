"""Answers through an OpenAI-compatible server, such as `vllm serve`.

The server must see what training sees, so it gets the sampled and resized frames, not the file. vLLM takes frames as
the data URL `data:video/jpeg;base64,FRAME,FRAME,…` and opens each with Pillow, whatever its format: the frames are
sent as PNG, which is lossless; JPEG would change the very quality that is judged. `media_io_kwargs` states their
positions in the video and that no frame may be left out. tests/inference/test_vllm_engines.py compares token ids and
the scores with the offline engine's.
"""

import base64
import io
import math
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
from vqathinker_verl.inference.engines.expectation import ANSWERS, CHARACTERS, NODES, character_tokens, distribution_of
from vqathinker_verl.inference.engines.prompting import (
    FrameTimes,
    decode_ahead,
    first_line,
    load_processor,
    model_type,
    of_the_model,
    request_seed,
)
from vqathinker_verl.parsing import up_to_answer

CONCURRENT = 32  # requests under way; the server batches them
RETRIES = 4
TOP_LOGPROBS = 20  # the most that vLLM's server returns unless it is started with more
SECONDS = 600.0  # for one request, waiting in the server's queue included


class ServerEngine:
    """A model behind an OpenAI-compatible server.

    Args:
        server: Address, with or without /v1 at its end. The environment's OPENAI_API_KEY is sent where it is set.
        model: The name under which the server has the model, or the folder that it was loaded from.
        frames: What to show. Their factor and image frames are the model's own where its folder is on this machine,
            else as given: a Qwen-VL's processor then repeats a single frame itself.
        sampling: How tokens are drawn.
        answer_prefix: What every response begins with.

    Raises:
        EngineError: The server does not answer, or has no such model.
    """

    defaults = ModelDefaults()

    def __init__(
        self, server: str, model: str, frames: FrameSpec, sampling: Sampling, *, answer_prefix: str, system: str = ""
    ) -> None:
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
        self.system = system
        folder = served[self.model]
        self.frames = frames
        here = Path(folder, "config.json").is_file()
        if here:
            self.frames = of_the_model(frames, load_processor(folder))
        # Elsewhere the name has to tell the architecture.
        kind = model_type(folder) if here else _model_type_by_name(folder)
        self.times = FrameTimes(folder, kind)

    def generate(self, requests: Sequence[Request], *, samples: int = 1, expectation: bool = False) -> Iterator[Answer]:
        """See `Engine.generate`."""
        check_samples(samples, self.sampling)
        return self._generate(requests, samples, self._characters() if expectation else None)

    def close(self) -> None:
        """See `Engine.close`; the server itself stays."""
        self.client.close()

    def _generate(
        self, requests: Sequence[Request], samples: int, characters: dict[str, int] | None
    ) -> Iterator[Answer]:
        with ThreadPoolExecutor(CONCURRENT, thread_name_prefix="requests") as executor:
            pending: deque[Future[Answer]] = deque()
            try:
                for request, video in decode_ahead(requests, self.frames, ahead=2):
                    pending.append(executor.submit(self._answer, request, video, samples, characters))
                    if len(pending) >= CONCURRENT:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _answer(
        self, request: Request, video: DecodedVideo | VideoError, samples: int, characters: dict[str, int] | None
    ) -> Answer:
        import openai

        if isinstance(video, VideoError):
            return Answer((), str(video))
        try:
            completion = self.client.chat.completions.create(**self.arguments(request.prompt, video, samples))
            responses = tuple(self.answer_prefix + (choice.message.content or "") for choice in completion.choices)
            begin = up_to_answer(responses[0]) if characters is not None and responses else None
            if characters is None or begin is None:
                return Answer(responses)
            found = distribution_of(self._next_characters(request.prompt, video, begin, characters))
            return Answer(responses, distribution=found)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Answer((), f"{request.video}: the server refuses it ({first_line(error)})")
        except openai.OpenAIError as error:
            raise EngineError(f"{self.client.base_url}: {first_line(error)}") from error

    def _characters(self) -> dict[str, int]:
        """The token of each character of a score, by the server's own tokenizer.

        Raises:
            ValueError: The vocabulary joins them.
            EngineError: The server does not tell.
        """
        import openai

        root = self.client.with_options(base_url=str(self.client.base_url).rstrip("/").removesuffix("/v1"))

        def encode(text: str) -> list[int]:
            body = {"model": self.model, "prompt": text, "add_special_tokens": False}
            found: Any = root.post("/tokenize", body=body, cast_to=object)
            return [int(token) for token in found["tokens"]]

        try:
            return character_tokens(encode, self.model)
        except (openai.OpenAIError, KeyError, TypeError) as error:
            raise EngineError(
                f"{root.base_url}: the expectation needs the /tokenize of vLLM's server ({first_line(error)}); score "
                "with --num-samples K instead"
            ) from error

    def _next_characters(
        self, prompt: str, video: DecodedVideo, begin: str, characters: dict[str, int]
    ) -> list[list[float]]:
        """Log probabilities (52, 11) of the next character after `begin` and each beginning of an answer.

        A server returns only the likeliest tokens. A legal character that is not among them is forced: the server
        always returns the log probability of the chosen token, and computes it before other tokens are forbidden.
        """
        following = {node: {answer[len(node)] for answer in ANSWERS if answer.startswith(node)} for node in NODES}
        names = {f"token_id:{token}": character for character, token in characters.items()}

        def returned(node: str, **more: Any) -> dict[str, float]:
            arguments = self.arguments(prompt, video, 1, begin + node) | {"max_tokens": 1, "temperature": 0.0}
            arguments |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
            arguments["extra_body"] |= {"return_tokens_as_token_ids": True, **more}
            (place,) = self.client.chat.completions.create(**arguments).choices[0].logprobs.content
            return {names[one.token]: one.logprob for one in [*place.top_logprobs, place] if one.token in names}

        table = []
        for node in NODES:
            row = returned(node)
            for character in sorted(following[node] - row.keys()):
                row |= returned(node, allowed_token_ids=[characters[character]])
            table.append([row.get(character, -math.inf) for character in CHARACTERS])
        return table

    def arguments(self, prompt: str, video: DecodedVideo, samples: int, begin: str | None = None) -> dict[str, Any]:
        """The request for one video, the response beginning with `begin` (None: the engine's own prefix).

        What is not OpenAI's own goes as `extra_body`.
        """
        begin = self.answer_prefix if begin is None else begin
        content = [
            {"type": "video_url", "video_url": {"url": frames_url(video)}},
            {"type": "text", "text": prompt},
        ]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        extra: dict[str, Any] = {
            "media_io_kwargs": {
                "video": {
                    "num_frames": -1,  # all that are sent
                    "fps": video.fps,
                    "frames_indices": video.indices.tolist(),
                    # A still image is sent more than once; vLLM wants at least as many frames as are sent.
                    "total_num_frames": max(video.total_frames, len(video.frames)),
                    "do_sample_frames": False,
                }
            },
            # Else the server takes them from the model's generation_config.json.
            "top_k": self.sampling.top_k,
            "repetition_penalty": 1.0,
        }
        shown = self.times.of(video)
        if times := self.times.vllm(shown):
            extra["mm_processor_kwargs"] = times
        if begin:
            messages.append({"role": "assistant", "content": begin})
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
