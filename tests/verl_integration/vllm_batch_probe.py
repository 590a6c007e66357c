"""What vLLM makes of the requests of one group, for test_agent_loop.py: it needs a process of its own.

    python vllm_batch_probe.py MODEL REQUESTS

REQUESTS is a file of torch: (token ids, frames, metadata) of each. Prints one JSON object: for every step of vLLM's
scheduler the number of requests that run, and of videos that go through the vision encoder.
"""

import json
import os
import sys

import torch

from vqathinker_verl.inference.engines.vllm_engine import CPU_ENVIRONMENT

if __name__ == "__main__":
    model, path = sys.argv[1:]
    os.environ |= CPU_ENVIRONMENT
    from vllm import LLM, SamplingParams

    llm = LLM(
        model,
        max_model_len=512,
        max_num_batched_tokens=4096,
        limit_mm_per_prompt={"video": 1, "image": 0},
        dtype="float32",
        enforce_eager=True,
        enable_chunked_prefill=False,
        skip_mm_profiling=True,
    )
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    stock, steps = scheduler.schedule, []

    def watched(*args, **kwargs):
        output = stock(*args, **kwargs)
        videos = sum(map(len, output.scheduled_encoder_inputs.values()))
        steps.append({"requests": len(output.num_scheduled_tokens), "videos": videos})
        return output

    scheduler.schedule = watched
    prompts = [
        {"prompt_token_ids": ids, "multi_modal_data": {"video": [(frames, metadata)]}}
        for ids, frames, metadata in torch.load(path, weights_only=True)
    ]
    llm.generate(prompts, SamplingParams(max_tokens=8, ignore_eos=True), use_tqdm=False)
    print("\n" + json.dumps(steps))
