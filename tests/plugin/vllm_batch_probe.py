"""What vLLM makes of the requests of one group, for test_agent_loop.py: it needs a process of its own.

    python vllm_batch_probe.py MODEL REQUESTS

REQUESTS is a JSON file: token ids, frames, metadata and mm_processor_kwargs of each. Prints one JSON object:
steps: for every step of vLLM's scheduler the number of requests that run, and of videos that go through its encoder;
processed: how many videos the processor was run on; loaded: how many processors were loaded meanwhile;
positions: those of each request's prompt.
"""

import json
import os
import sys
from pathlib import Path

import torch
from transformers import Qwen2_5_VLProcessor, Qwen2VLVideoProcessor

from vqathinker_verl.inference.engines.vllm_engine import CPU_ENVIRONMENT

if __name__ == "__main__":
    model, path = sys.argv[1:]
    os.environ |= CPU_ENVIRONMENT
    from vllm import LLM, SamplingParams
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

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
    counts = {"processed": 0, "loaded": 0}

    def count(owner, name, key):
        stock = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[key] += 1
            return stock(*args, **kwargs)

        setattr(owner, name, counted)

    count(Qwen2VLVideoProcessor, "preprocess", "processed")
    count(Qwen2_5_VLProcessor, "from_pretrained", "loaded")

    stock_positions, positions = Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions, []

    def watched_positions(*args, **kwargs):
        found = stock_positions(*args, **kwargs)
        positions.append(found[0].tolist())
        return found

    Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions = watched_positions
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    stock, steps = scheduler.schedule, []

    def watched(*args, **kwargs):
        output = stock(*args, **kwargs)
        videos = sum(map(len, output.scheduled_encoder_inputs.values()))
        steps.append({"requests": len(output.num_scheduled_tokens), "videos": videos})
        return output

    scheduler.schedule = watched
    prompts = [
        {
            "prompt_token_ids": request["ids"],
            "multi_modal_data": {"video": [(torch.tensor(request["frames"], dtype=torch.uint8), request["metadata"])]},
            "mm_processor_kwargs": request["mm_processor_kwargs"],
        }
        for request in json.loads(Path(path).read_text())
    ]
    llm.generate(prompts, SamplingParams(max_tokens=8, ignore_eos=True), use_tqdm=False)
    print("\n" + json.dumps({"steps": steps, "positions": positions, **counts}))
