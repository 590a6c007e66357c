"""The service as the reward of another GRPO run: how good is the video that a response makes?

    vqathinker serve --model outputs/model        # elsewhere: another GPU, another machine
    pip install trl datasets httpx av
    python examples/service_reward.py

The policy here chooses how strongly a clip is compressed, as one word, and `render` makes the video of that choice. In
your run `render` is whatever turns a response into a video: a renderer, an editor, a video generator. All videos of a
batch are sent at once, and the service scores them together. The policy is a tiny random one, so that the example runs
anywhere in seconds.

verl takes `compute_score` by its path, and calls it for all responses at the same time:

    reward.custom_reward_function.path=examples/service_reward.py
    reward.custom_reward_function.name=compute_score

VQATHINKER_URL is the address of the service (default: http://127.0.0.1:8000), VQATHINKER_TOKEN its token.
"""

import asyncio
import functools
import os
import random
import re
import tempfile
from typing import Any

import httpx
import numpy as np

URL = os.environ.get("VQATHINKER_URL", "http://127.0.0.1:8000")
CONCURRENT = 64  # requests at a time; below the --max-queue of the service
ATTEMPTS = 8  # of a request that the service is too busy for
SECONDS = 600.0  # longest wait for one answer; the service's own --timeout is shorter
NO_SCORE = float("nan")


def service() -> httpx.AsyncClient:
    """Return a client of the service; one per batch, since making one takes a while."""
    token = os.environ.get("VQATHINKER_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=URL, headers=headers, timeout=SECONDS)


async def quality(video: bytes, client: httpx.AsyncClient) -> float:
    """Return the score of a video in [1, 5]; NaN if the service cannot use the video or gives it no score.

    Args:
        video: The bytes of an MP4 file.
        client: See `service`.

    Raises:
        RuntimeError: No service answers, or it refuses the request. A run must not learn from made-up rewards.
    """
    for attempt in range(ATTEMPTS):
        try:
            answer = await client.post("/score", files={"file": ("video.mp4", video)})
        except httpx.TransportError as error:
            raise RuntimeError(f"{URL}: no answer ({error!r}); is `vqathinker serve` running there?") from error
        if answer.status_code != 429:
            break
        # Not all at the same moment again.
        await asyncio.sleep(float(answer.headers.get("retry-after", 1)) * 2**attempt * random.uniform(0.5, 1))
    record = answer.json()
    if answer.status_code not in (200, 422):
        raise RuntimeError(f"{URL}: status {answer.status_code}: {record['error']}")
    if record["score"] is None:
        print(f"no score: {record['error']}")
        return NO_SCORE
    return float(record["score"])


async def qualities(videos: list[bytes | None]) -> list[float]:
    """Return the score of each video, asked for at the same time; NaN for None."""
    limit = asyncio.Semaphore(CONCURRENT)

    async def one(video: bytes | None) -> float:
        if video is None:
            return NO_SCORE
        async with limit:
            return await quality(video, client)

    async with service() as client:
        return await asyncio.gather(*map(one, videos))


def quality_reward(completions: list[Any], **_: Any) -> list[float | None]:
    """Return a reward per completion, as TRL's GRPOTrainer asks for it.

    A completion that makes no video earns 0, less than any video. A video that gets no score earns None: no verdict.
    """
    videos = [render(one if isinstance(one, str) else one[-1]["content"]) for one in completions]
    scores = asyncio.run(qualities(videos))
    return [
        0.0 if video is None else None if np.isnan(score) else score
        for video, score in zip(videos, scores, strict=True)
    ]


async def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, **_: Any
) -> dict[str, float]:
    """Return the reward of one response, as verl asks for it.

    Without a video, or without a score for it, the reward is 0 and `no_score` is 1: verl logs its mean.
    """
    (score,) = await qualities([render(solution_str)])
    missing = bool(np.isnan(score))
    return {"score": 0.0 if missing else score, "quality": score, "no_score": float(missing)}


@functools.lru_cache
def render(response: str) -> bytes | None:
    """Return the MP4 that a response makes: the clip, encoded at the CRF it chose; None if it chose none in 0 to 51."""
    from vqathinker_verl.demo.degradations import encode_h264

    choice = re.search(r"crf(\d+)", response)
    if choice is None or int(choice[1]) > 51:
        return None
    return encode_h264(clip(), int(choice[1]))


def clip() -> np.ndarray:
    """Return a second of a moving texture: uint8 RGB (24, 112, 112, 3)."""
    texture = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    return np.stack([np.roll(texture, 2 * frame, axis=1) for frame in range(24)])


def main() -> None:
    """Train for 40 steps and print the mean reward at the begin and at the end."""
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, set_seed
    from trl import GRPOConfig, GRPOTrainer

    set_seed(0)
    words = ["<pad>", "<eos>", "encode", *(f"crf{crf}" for crf in range(15, 52, 6))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=LlamaForCausalLM(config),
            processing_class=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"),
            train_dataset=Dataset.from_list([{"prompt": "encode"}]),
            reward_funcs=[quality_reward],
            args=GRPOConfig(
                output_dir=folder, per_device_train_batch_size=32, num_generations=32, max_completion_length=1,
                max_steps=40, learning_rate=3e-2, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
                bf16=False, disable_tqdm=True, seed=0,
            ),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    rewards = [entry["rewards/quality_reward/mean"] for entry in trainer.state.log_history if "reward" in entry]
    first, last = np.mean(rewards[:3]), np.mean(rewards[-3:])
    print(f"mean quality of the videos: {first:.3f} in the first 3 steps, {last:.3f} in the last 3")


if __name__ == "__main__":
    main()
