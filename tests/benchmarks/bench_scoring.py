"""Videos a second: vLLM with its batches against transformers one video at a time, in one run.

    python tests/benchmarks/bench_scoring.py [--model PATH] [--videos N]

Without --model a tiny untrained Qwen2.5-VL writes at most --tokens tokens a video. Its figures say how batching pays
where a model costs little beside its surroundings; those of a 7B model on a GPU are other figures. Both engines decode
the same videos from the disk, ahead of the model. Loading is not counted, and each engine answers once before.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines import Engine, Request, Sampling, open_engine
from vqathinker_verl.prompts import QUALITY_PROMPT


def write_clips(folder: Path, count: int) -> list[Path]:
    """Clips of 84x84 with noise of their own."""
    paths = []
    for number in range(count):
        frames = np.random.default_rng(number).integers(0, 256, (24, 84, 84, 3), dtype=np.uint8)
        paths.append(folder / f"{number:03d}.mp4")
        paths[-1].write_bytes(encode_h264(frames, 23))
    return paths


def write_model(folder: Path) -> str:
    """An untrained tiny policy: it babbles, and hardly ever ends before --tokens tokens."""
    from vqathinker_verl.demo.model import build_model, build_processor, save_policy

    processor = build_processor()
    save_policy(build_model(processor.tokenizer, seed=0), processor, folder)
    return str(folder)


def videos_a_second(engine: Engine, requests: list[Request]) -> tuple[float, list[tuple[str, ...]]]:
    """Throughput over all requests, and the responses."""
    list(engine.generate(requests[:1]))
    started = time.perf_counter()
    responses = [answer.responses for answer in engine.generate(requests)]
    return len(requests) / (time.perf_counter() - started), responses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or write_model(Path(scratch, "model"))
        requests = [Request(clip, QUALITY_PROMPT) for clip in write_clips(Path(scratch), args.videos)]
        rates, responses = {}, {}
        for backend in ("transformers", "vllm"):
            engine = open_engine(
                model,
                backend=backend,
                frames=FrameSpec(6, max_pixels=7056),
                sampling=Sampling(max_tokens=args.tokens),
            )
            rates[backend], responses[backend] = videos_a_second(engine, requests)
            print(f"{backend:12} {rates[backend]:7.2f} videos/s", flush=True)
            del engine
        same = sum(one == other for one, other in zip(responses["transformers"], responses["vllm"], strict=True))
    print(f"vllm / transformers = {rates['vllm'] / rates['transformers']:.1f}; equal responses: {same}/{args.videos}")


if __name__ == "__main__":
    main()
