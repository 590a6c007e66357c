"""Measure the warmed-up policy on the held-out clips: does it answer in the format, and does it know anything yet?"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker_verl.demo.clips import ClipLabel
from vqathinker_verl.demo.degradations import DISTORTION_WORDS, decode_h264
from vqathinker_verl.demo.scenes import NUM_FRAMES, Frames
from vqathinker_verl.demo.warmup import prompt_inputs
from vqathinker_verl.demo.warmup_clips import NUM_SAMPLED
from vqathinker_verl.frames import segment_centres
from vqathinker_verl.metrics import srcc
from vqathinker_verl.parsing import parse_answer
from vqathinker_verl.rewards.format import format_reward

MAX_NEW_TOKENS = 24
_BATCH = 16


def load_sampled_frames(path: Path) -> Frames:
    """The frames of a clip that the policy sees, at the uniform segment centres: (NUM_SAMPLED, H, W, 3) uint8."""
    return decode_h264(path.read_bytes(), segment_centres(NUM_FRAMES, NUM_SAMPLED))


def respond(
    model: Any, processor: Any, clips: Sequence[Frames], seconds: Sequence[float], *, num_responses: int, seed: int
) -> list[list[str]]:
    """Responses to the default question for each clip: sampled at temperature 1, or one greedy if `num_responses` is 0.

    Args:
        model: The policy, its positions those of `frames.positions` (`use_true_times`).
        processor: Of the policy.
        clips: Sampled frames of each clip.
        seconds: Duration of each clip.
        num_responses: Per clip.
        seed: Of the sampling.

    Returns:
        One list of response texts per clip, in order.
    """
    import torch

    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "num_return_sequences": num_responses}
    texts: list[list[str]] = []
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for start in range(0, len(clips), _BATCH):
            batch = slice(start, start + _BATCH)
            inputs = prompt_inputs(processor, clips[batch], seconds[batch])
            options = sampling if num_responses else {"do_sample": False}
            output = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **options)
            decoded = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            each = max(1, num_responses)
            texts.extend(decoded[first : first + each] for first in range(0, len(decoded), each))
    model.train()
    return texts


def measure_policy(
    model: Any, processor: Any, labels: Sequence[ClipLabel], videos: Path, seed: int
) -> dict[str, float]:
    """Format, knowledge and spread of the policy on labelled clips.

    Returns:
        format_rate: mean format reward of 8 sampled responses per clip.
        srcc: of all sampled scores with the stand-in MOS of their clips, 8 per clip: what the policy knows. Near 0 by
            chance alone it lies within 2 / sqrt(8 x clips).
        srcc_greedy: of the greedy scores; NaN if they are all the same. Where all digits are equally likely the
            greedy one follows from differences without meaning, so this says little before the training.
        group_std: mean standard deviation of the scores of one clip's 8 responses.
        named_right: share of greedy responses that name the true distortion.
    """
    clips = [load_sampled_frames(videos / label.video) for label in labels]
    seconds = [label.seconds for label in labels]
    sampled = respond(model, processor, clips, seconds, num_responses=8, seed=seed)
    greedy = [texts[0] for texts in respond(model, processor, clips, seconds, num_responses=0, seed=seed)]
    scores = np.array([parse_answer(text).score for text in greedy])
    mos = np.array([label.mos for label in labels])
    known = np.isfinite(scores)
    group_scores = np.array([[parse_answer(text).score for text in texts] for texts in sampled])
    parsed = np.isfinite(group_scores)
    return {
        "format_rate": float(np.mean(format_reward([text for texts in sampled for text in texts]))),
        "srcc": float(srcc(group_scores[parsed], np.broadcast_to(mos[:, None], group_scores.shape)[parsed])),
        "srcc_greedy": float(srcc(scores[known], mos[known])),
        "group_std": float(np.nanmean(np.nanstd(group_scores, axis=1))),
        "named_right": float(
            np.mean(
                [
                    bool(re.search(rf"\b{DISTORTION_WORDS[label.distortion]}\b", text))
                    for label, text in zip(labels, greedy, strict=True)
                ]
            )
        ),
    }
