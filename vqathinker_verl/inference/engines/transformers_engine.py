"""Answers through transformers, one video at a time: works wherever torch does, and slower than vLLM."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.frames import DecodedVideo, FrameSpec, VideoError
from vqathinker_verl.frames.positions import in_model_dtype, use_true_times
from vqathinker_verl.inference.engines.contract import (
    Answer,
    EngineError,
    ModelDefaults,
    Request,
    Sampling,
    check_samples,
)
from vqathinker_verl.inference.engines.expectation import CHARACTERS, NODES, PATHS, distribution_of
from vqathinker_verl.inference.engines.prompting import Prompting, decode_ahead, first_line, request_seed
from vqathinker_verl.parsing import up_to_answer

TREE_ROWS = 8  # beginnings of answers read at once: each holds a copy of the prompt's cache


class TransformersEngine:
    """A model in this process. One video at a time, so that an answer cannot depend on its neighbours.

    Args:
        model: Hugging Face folder or name.
        frames: What to show.
        sampling: How tokens are drawn.
        answer_prefix: What every response begins with.
        dtype: A torch dtype's name; "auto" is bfloat16 on a GPU and float32 without one.

    Raises:
        EngineError: The model cannot be loaded.
    """

    defaults = ModelDefaults()

    def __init__(
        self, model: str, frames: FrameSpec, sampling: Sampling, *, answer_prefix: str, dtype: str, system: str = ""
    ) -> None:
        import torch
        from transformers import AutoModelForImageTextToText

        self.prompting = Prompting(model, frames, answer_prefix, system)
        self.frames = self.prompting.frames
        self.sampling = sampling
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if self.device == "cuda" else "float32"
        try:
            self.model = AutoModelForImageTextToText.from_pretrained(model, dtype=getattr(torch, dtype))
        except (OSError, ValueError) as error:
            raise EngineError(
                f"{model}: its weights cannot be loaded ({first_line(error)}); is the folder complete?"
            ) from error
        self.model.to(self.device).eval()
        use_true_times(self.model.model)

    def generate(self, requests: Sequence[Request], *, samples: int = 1, expectation: bool = False) -> Iterator[Answer]:
        """See `Engine.generate`."""
        check_samples(samples, self.sampling)
        return self._generate(requests, samples, self.prompting.characters() if expectation else None)

    def close(self) -> None:
        """See `Engine.close`."""
        import torch

        del self.model
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _generate(
        self, requests: Sequence[Request], samples: int, characters: dict[str, int] | None
    ) -> Iterator[Answer]:
        for request, video in decode_ahead(requests, self.frames, ahead=2):
            if isinstance(video, VideoError):
                yield Answer((), str(video))
            else:
                responses = self._respond(request.prompt, video, samples)
                begin = up_to_answer(responses[0]) if characters is not None else None
                if characters is None or begin is None:
                    yield Answer(responses)
                else:
                    table = self._next_characters(request.prompt, video, begin, characters)
                    yield Answer(responses, distribution=distribution_of(table))

    def _features(self, prompt: str, video: DecodedVideo, begin: str | None = None) -> Any:
        inputs = self.prompting.features(prompt, video, begin).to(self.device)
        if "second_per_grid_ts" in inputs:
            inputs["second_per_grid_ts"] = in_model_dtype(inputs["second_per_grid_ts"], self.model.dtype)
        return inputs

    def _next_characters(
        self, prompt: str, video: DecodedVideo, begin: str, characters: dict[str, int]
    ) -> NDArray[np.float64]:
        """Log probabilities (52, 11) of the next character after `begin` and each beginning of an answer.

        The prompt is read once; the beginnings of three characters continue from its cache, some at a time.
        """
        import torch

        inputs = self._features(prompt, video, begin)
        columns = torch.tensor([characters[character] for character in CHARACTERS], device=self.device)
        table = np.full((len(NODES), len(CHARACTERS)), np.nan)

        def read(logits: Any) -> NDArray[np.float64]:
            return logits.double().log_softmax(-1).index_select(-1, columns).cpu().numpy()

        with torch.no_grad():
            shared = self.model(**inputs, use_cache=True, logits_to_keep=1)
            table[0] = read(shared.logits[0, -1])
            for paths in (PATHS[start : start + TREE_ROWS] for start in range(0, len(PATHS), TREE_ROWS)):
                cache = copy.deepcopy(shared.past_key_values)
                cache.batch_repeat_interleave(len(paths))
                ids = torch.tensor([[characters[one] for one in path] for path in paths], device=self.device)
                # Without a mask: nothing is padded, and the positions continue from the prompt's last one.
                output = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
                for path, rows in zip(paths, read(output.logits), strict=True):
                    for place, row in enumerate(rows, start=1):
                        table[NODES.index(path[:place])] = row
        return table

    def _respond(self, prompt: str, video: DecodedVideo, samples: int) -> tuple[str, ...]:
        import torch

        inputs = self._features(prompt, video)
        # Draws of a generator of their own, and the caller's put back afterwards.
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(request_seed(self.sampling.seed, prompt, video))
            output = self.model.generate(**inputs, generation_config=self._generation_config(samples))
        begin = inputs["input_ids"].shape[1]
        texts = self.prompting.processor.batch_decode(output[:, begin:], skip_special_tokens=True)
        return tuple(self.prompting.answer_prefix + text for text in texts)

    def _generation_config(self, samples: int) -> Any:
        """Where to stop is the model's own; how to draw is ours alone, as it is in verl's rollouts.

        transformers fills fields that are left out from the model's own: Qwen's penalise repeated tokens, for one.
        """
        from transformers import GenerationConfig

        drawing: dict[str, Any] = {"do_sample": False}
        if self.sampling.temperature > 0:
            drawing = {"temperature": self.sampling.temperature, "top_p": self.sampling.top_p}
            drawing["top_k"] = self.sampling.top_k
            drawing["do_sample"] = True
        own = self.model.generation_config
        return GenerationConfig(
            max_new_tokens=self.sampling.max_tokens,
            num_return_sequences=samples,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=own.eos_token_id,
            pad_token_id=own.pad_token_id,
            **drawing,
        )
