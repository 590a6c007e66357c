"""Videos a second of `vqathinker serve` beside offline `score`: same process, same model, same clips.

    python tests/benchmarks/bench_service.py [--model PATH] [--backend vllm|transformers] [--videos N] [--clients N]

Without --model a tiny untrained Qwen2.5-VL writes at most --tokens tokens a video. The service runs on a real socket;
its clients are threads of this process, and each asks for one video at a time, by path and then by upload. Offline
scoring gets all videos as one list, before and after, so that a machine that changes its pace shows. Loading is not
counted.
"""

import argparse
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import uvicorn
from bench_scoring import write_clips, write_model

from vqathinker_verl import VideoScorer
from vqathinker_verl.inference.service.app import create_app
from vqathinker_verl.inference.service.run import bind
from vqathinker_verl.inference.service.settings import ServiceSettings


def offline(scorer: VideoScorer, clips: list[Path]) -> tuple[float, list[str | None]]:
    """Throughput of one list, and the responses."""
    begin = time.perf_counter()
    responses = [one.response for one in scorer.stream(clips)]
    return len(clips) / (time.perf_counter() - begin), responses


def served(address: str, clips: list[Path], clients: int, *, upload: bool) -> tuple[float, list[str | None]]:
    """Throughput of `clients` that each ask for one video after the other, and the responses."""
    with httpx.Client(base_url=address, timeout=600, limits=httpx.Limits(max_connections=clients)) as client:

        def ask(clip: Path) -> str | None:
            body = {"files": {"file": (clip.name, clip.read_bytes())}} if upload else {"json": {"video": clip.name}}
            answer = client.post("/score", **body)
            answer.raise_for_status()
            return answer.json()["response"]

        with ThreadPoolExecutor(clients) as pool:
            begin = time.perf_counter()
            responses = list(pool.map(ask, clips))
            return len(clips) / (time.perf_counter() - begin), responses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        options = {} if args.model else {"num_frames": 6, "max_pixels": 7056, "max_tokens": args.tokens}
        model = args.model or write_model(folder / "model")
        clips = write_clips(folder, args.videos)
        rates, responses = {}, {}
        settings = ServiceSettings(video_roots=(folder,))
        with (
            VideoScorer(model, engine=args.backend, progress=False, **options) as scorer,
            bind("127.0.0.1", 0) as bound,
        ):
            offline(scorer, clips[:4])
            server = uvicorn.Server(uvicorn.Config(create_app(scorer, settings), log_level="warning", access_log=False))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            address = f"http://127.0.0.1:{bound.getsockname()[1]}"
            thread.start()
            while not server.started:
                time.sleep(0.05)
            served(address, clips[:4], 4, upload=True)
            for name in ("offline", "paths", "uploads", "offline again"):
                if name.startswith("offline"):
                    rates[name], responses[name] = offline(scorer, clips)
                else:
                    rates[name], responses[name] = served(address, clips, args.clients, upload=name == "uploads")
                same = sum(one == other for one, other in zip(responses["offline"], responses[name], strict=True))
                print(f"{name:14} {rates[name]:7.2f} videos/s; {same}/{args.videos} responses as offline", flush=True)
            server.should_exit = True
            thread.join()
    mean = (rates["offline"] + rates["offline again"]) / 2
    print(f"service / offline = {rates['paths'] / mean:.2f} by path, {rates['uploads'] / mean:.2f} by upload")


if __name__ == "__main__":
    main()
