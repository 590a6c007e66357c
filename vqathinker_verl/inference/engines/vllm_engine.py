"""Answers through vLLM in this process: many videos at a time.

vLLM gets what verl's agent loop hands to its vLLM server in training: token ids with one placeholder for the video,
and the frames with their metadata. So it runs the processor as it does there.
"""

import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from vqathinker_verl.frames import DecodedVideo, FrameSpec, VideoError
from vqathinker_verl.inference.engines.contract import (
    Answer,
    EngineError,
    ModelDefaults,
    Request,
    Sampling,
    check_samples,
)
from vqathinker_verl.inference.engines.expectation import CHARACTERS, NODES, ScoreDistribution, distribution_of
from vqathinker_verl.inference.engines.prompting import (
    Prompting,
    decode_ahead,
    first_line,
    request_seed,
)
from vqathinker_verl.parsing import up_to_answer

BATCH = 32  # videos handed to vLLM at once; the next ones are decoded meanwhile
CPU_BATCH_TOKENS = 4096
TEXT_TOKENS = 2048  # room for the question, beside the video and the response

# vLLM's CPU backend: the recipe sets the same for training (recipes/run_vqathinker.sh). One process, since its workers
# would share the same cores.
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",  # it warns of thread settings at every step
}


class VllmEngine:
    """A model in vLLM's offline engine.

    Args:
        model: Hugging Face folder or name.
        frames: What to show.
        sampling: How tokens are drawn.
        answer_prefix: What every response begins with.
        dtype: A torch dtype's name; "auto" is bfloat16 on a GPU and float32 without one.
        prefix_caching: Whether what prompts share is read once, which the expectation needs to be fast.

    Raises:
        EngineError: The model cannot be loaded.
    """

    defaults = ModelDefaults()

    def __init__(
        self,
        model: str,
        frames: FrameSpec,
        sampling: Sampling,
        *,
        answer_prefix: str,
        dtype: str,
        prefix_caching: bool = False,
        system: str = "",
    ) -> None:
        import torch
        from transformers import AutoConfig

        self.prompting = Prompting(model, frames, answer_prefix, system)
        self.frames = self.prompting.frames
        self.sampling = sampling
        on_gpu = torch.cuda.is_available()
        options: dict[str, Any] = {"dtype": "bfloat16" if dtype == "auto" else dtype}
        if not on_gpu:
            for name, value in CPU_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            # Whole prompts only: a request with a seed whose prompt is cut in two ends vLLM 0.24 here ("CPU Generator
            # does not use offset"), since it turns the generator back for the part.
            options = {
                "dtype": "float32" if dtype == "auto" else dtype,
                "enforce_eager": True,
                "enable_chunked_prefill": False,
            }
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from vllm import LLM  # reads its environment when it is imported

        positions = AutoConfig.from_pretrained(model).get_text_config().max_position_embeddings
        longest = longest_request(self.frames, sampling.max_tokens, positions)
        if not on_gpu:
            options["max_num_batched_tokens"] = max(longest, CPU_BATCH_TOKENS)
        try:
            self.llm = LLM(
                model,
                max_model_len=longest,
                limit_mm_per_prompt={"video": 1, "image": 0},
                skip_mm_profiling=not on_gpu,
                enable_prefix_caching=prefix_caching,  # its hits change the batches, and with them the last bits
                disable_log_stats=True,
                use_tqdm_on_load=False,
                seed=sampling.seed,
                **options,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"{model}: vLLM cannot load it ({first_line(error)}); its own log says more") from error

    def generate(self, requests: Sequence[Request], *, samples: int = 1, expectation: bool = False) -> Iterator[Answer]:
        """See `Engine.generate`."""
        check_samples(samples, self.sampling)
        return self._generate(requests, samples, self.prompting.characters() if expectation else None)

    def close(self) -> None:
        """See `Engine.close`."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm

    def _generate(
        self, requests: Sequence[Request], samples: int, characters: dict[str, int] | None
    ) -> Iterator[Answer]:
        decoded = decode_ahead(requests, self.frames, ahead=BATCH)
        while batch := list(islice(decoded, BATCH)):
            shown = [(request.prompt, video) for request, video in batch if not isinstance(video, VideoError)]
            responses = self._respond(shown, samples) if shown else []
            found: list[ScoreDistribution | None] = [None] * len(responses)
            if characters is not None:
                found = self._distributions(shown, [texts[0] for texts in responses], characters)
            answers = iter(Answer(texts, distribution=one) for texts, one in zip(responses, found, strict=True))
            for _, video in batch:
                yield Answer((), str(video)) if isinstance(video, VideoError) else next(answers)

    def _distributions(
        self, shown: list[tuple[str, DecodedVideo]], responses: list[str], characters: dict[str, int]
    ) -> list[ScoreDistribution | None]:
        """Of the score of each video, after its response's reasoning; None where that opens no answer."""
        from vllm import SamplingParams

        begins = [up_to_answer(response) for response in responses]
        tokens = [characters[character] for character in CHARACTERS]
        reading = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=tokens, detokenize=False)
        prompts = []
        for (prompt, video), begin in zip(shown, begins, strict=True):
            if begin is not None:
                base = self.prompt(prompt, video, begin)
                for node in NODES:
                    ids = base["prompt_token_ids"] + [characters[character] for character in node]
                    prompts.append({**base, "prompt_token_ids": ids})
        outputs = iter(self.llm.generate(prompts, reading, use_tqdm=False) if prompts else [])
        found: list[ScoreDistribution | None] = []
        for begin in begins:
            if begin is None:
                found.append(None)
                continue
            read = [next(outputs).outputs[0].logprobs[0] for _ in NODES]
            found.append(distribution_of([[one[token].logprob for token in tokens] for one in read]))
        return found

    def _respond(self, shown: list[tuple[str, DecodedVideo]], samples: int) -> list[tuple[str, ...]]:
        from vllm import SamplingParams

        drawing = [
            SamplingParams(
                n=samples,
                temperature=self.sampling.temperature,
                top_p=self.sampling.top_p,
                top_k=self.sampling.top_k,
                max_tokens=self.sampling.max_tokens,
                seed=request_seed(self.sampling.seed, prompt, video),
            )
            for prompt, video in shown
        ]
        try:
            outputs = self.llm.generate([self.prompt(*one) for one in shown], drawing, use_tqdm=False)
        except ValueError as error:  # a request that does not fit; it would fit for no video of this size
            raise EngineError(f"vLLM refuses a request ({first_line(error)}); show fewer or smaller frames") from error
        prefix, tokenizer = self.prompting.answer_prefix, self.prompting.processor.tokenizer
        # From the tokens, as verl does: vLLM's own text leaves out a character that the last token only began.
        return [
            tuple(prefix + tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in output.outputs)
            for output in outputs
        ]

    def prompt(self, prompt: str, video: DecodedVideo, begin: str | None = None) -> Any:
        """What vLLM is given for one request whose response begins with `begin` (None: the engine's own prefix)."""
        token_ids = self.prompting.processor.tokenizer(self.prompting.text(prompt, begin))["input_ids"]
        shown = self.prompting.video(video)
        return {
            "prompt_token_ids": token_ids,
            "multi_modal_data": {"video": [shown]},
            "mm_processor_kwargs": self.prompting.times.vllm(shown),
        }


def longest_request(frames: FrameSpec, max_tokens: int, positions: int) -> int:
    """Tokens of the longest request, prompt and response, at most what the model's positions allow.

    vLLM reserves memory for a request of this length: by default for all positions of the model, which are many more.

    Args:
        frames: What is shown.
        max_tokens: Longest response.
        positions: Most tokens that the model can tell apart.
    """
    if frames.size is not None:
        pixels = math.prod(frames.size)
    elif frames.max_pixels is not None:
        pixels = frames.max_pixels
    else:
        return positions  # the videos decide
    # Two frames share a token; one token more a frame pair for the time stamps that some models write.
    video_tokens = math.ceil(frames.num_frames / 2) * (math.ceil(pixels / frames.factor**2) + 16)
    return min(positions, video_tokens + TEXT_TOKENS + max_tokens)
