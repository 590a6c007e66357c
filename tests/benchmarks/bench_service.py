"""Videos a second of `vqathinker serve` beside offline `score`: same process, same model, same clips.

    python tests/benchmarks/bench_service.py [--model PATH] [--backend vllm|transformers] [--videos N] [--clients N]

Without --model a tiny untrained Qwen2.5-VL writes at most --tokens tokens a video. The service runs on a real socket;
its clients are threads of this process, and each asks for one video at a time, by path or by upload. Offline scoring
gets all videos as one list. The three take turns, and the medians over the rounds are compared, since other work on the
machine changes its pace. Loading is not counted.
"""

import argparse
import os
import statistics
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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        options = {} if args.model else {"num_frames": 6, "max_pixels": 7056, "max_tokens": args.tokens}
        model = args.model or write_model(folder / "model")
        clips = write_clips(folder, args.videos)
        rates: dict[str, list[float]] = {"offline": [], "path": [], "upload": []}
        first: list[str | None] = []
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
            for _ in range(args.rounds):
                for name, found in rates.items():
                    if name == "offline":
                        rate, responses = offline(scorer, clips)
                    else:
                        rate, responses = served(address, clips, args.clients, upload=name == "upload")
                    first = first or responses
                    same = sum(one == other for one, other in zip(first, responses, strict=True))
                    print(f"{name:8} {rate:7.2f} videos/s; {same}/{args.videos} responses as at first", flush=True)
                    found.append(rate)
            server.should_exit = True
            thread.join()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    by_path, by_upload = (medians[name] / medians["offline"] for name in ("path", "upload"))
    print(f"service / offline, medians of {args.rounds} rounds: {by_path:.2f} by path, {by_upload:.2f} by upload")


if __name__ == "__main__":
    main()
