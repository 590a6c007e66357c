"""What vLLM makes of scoring's requests, for test_vllm_engines.py: it needs a process of its own.

    python vllm_probe.py MODEL CLIP...

The video processor, which vLLM runs in this process, is watched. Prints one JSON object.
"""

import hashlib
import json
import sys
from pathlib import Path

from transformers import Qwen2VLVideoProcessor

from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.inference.engines import Request, Sampling, open_engine
from vqathinker_verl.prompts import QUALITY_PROMPT


def digest(pixels) -> str:
    return hashlib.sha256(pixels.float().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    model, *clips = sys.argv[1:]
    seen = []
    preprocess = Qwen2VLVideoProcessor.preprocess

    def watched(self, *args, **kwargs):
        output = preprocess(self, *args, **kwargs)
        seen.append(digest(output["pixel_values_videos"]))
        return output

    frames, sampling = FrameSpec(4, max_pixels=56 * 56), Sampling(max_tokens=8)
    engine = open_engine(model, backend="vllm", frames=frames, sampling=sampling)
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

    requests = [Request(Path(clip), QUALITY_PROMPT) for clip in clips]
    alone = [next(engine.generate([request])).responses for request in requests]
    together = [answer.responses for answer in engine.generate([*requests, Request(Path("missing.mp4"), "Q")])]
    backwards = [answer.responses for answer in engine.generate(requests[::-1])][::-1]
    engine.sampling = Sampling(max_tokens=8, temperature=1.0)
    sampled = [answer.responses for answer in engine.generate(requests, samples=3)]
    sampled_alone = [next(engine.generate([request], samples=3)).responses for request in requests]

    # More prompts at once than fit into one of vLLM's batches.
    many = [len(answer.responses) for answer in engine.generate(requests, samples=60)]

    engine.prompting.answer_prefix, engine.sampling = "<answer>", sampling
    distributions = [answer.distribution for answer in engine.generate(requests, expectation=True)]
    engine.prompting.answer_prefix = ""

    Qwen2VLVideoProcessor.preprocess = watched
    engine.llm.reset_mm_cache()
    stock_positions, positions = Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions, []

    def watched_positions(*args, **kwargs):
        found = stock_positions(*args, **kwargs)
        positions.append(found[0].tolist())
        return found

    Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions = watched_positions
    video = decode(clips[0], engine.frames)
    (output,) = engine.llm.generate([engine.prompt(QUALITY_PROMPT, video)], use_tqdm=False)
    in_vllm, seen[:] = list(seen), []
    features = engine.prompting.features(QUALITY_PROMPT, video)
    result = {
        "alone": alone,
        "together": together,
        "backwards": backwards,
        "sampled": sampled,
        "sampled_alone": sampled_alone,
        "expectation": [one.mean for one in distributions],
        "many": many,
        "token_ids": [output.prompt_token_ids, features["input_ids"][0].tolist()],
        "positions": positions,
        "video_grid_thw": features["video_grid_thw"].tolist(),
        "second_per_grid_ts": features["second_per_grid_ts"].tolist(),
        "pixels": [in_vllm, [digest(features["pixel_values_videos"])]],
    }
    print("\n" + json.dumps(result))
