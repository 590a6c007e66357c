"""What a training step costs: stock verl and this plugin, on the same model, clips and batch, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_step.py --heights 1080 --group-sizes 8
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_step.py --growth   # 8, 16, 32 videos a step; 6 and 12 frames
    python tests/benchmarks/bench_step.py --list                       # what would be run

Every run is `verl.trainer.main_ppo` without a GPU, on the demo's untrained model. Frames are read at 448 x 448. The
demo's processor shrinks them to 84 x 84, so a step is mostly reading and moving; with `--model-side 448` the model
sees them as they are, and its passes, which both sides have, are most of a step. A stock run
has verl's RLHFDataset (qwen-vl-utils), its single-turn agent loop, its trainer, and a reward per response; of this
package it has only what verl needs without a GPU. Ours is run without and with the temporal pair (4 more responses to
each video at G = 8), which stock verl does not have.

Each clip is a file of its own, of 5 s. The first pass over the clips sees new videos, the second cached ones; stock
verl has no cache, so its one pass is compared with both. The first step of a run is left out: it compiles and fills
caches of the processes. A step's processor time is that of all processes of the run; its peak memory is the sum of
their proportional set sizes, sampled; the bytes moved are those of the machine's loopback interface, which
TransferQueue uses. So let nothing else run.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pyarrow.parquet
from bench_frames import HEIGHTS, SIDE, make_parquet, make_processor
from helpers.runs import descendants

from vqathinker_verl.demo.model import SIZE, build_model, build_processor, save_policy
from vqathinker_verl.runner.settings import device_environment

PASS_STEPS = 3  # in each pass over the clips; the first of a run is left out
ROLLOUT = "actor_rollout_ref.rollout"
STOCK = [
    "data.custom_cls.path=null",
    "data.custom_cls.name=null",
    "data.filter_overlong_prompts=false",
    f"{ROLLOUT}.agent.default_agent_loop=single_turn_agent",
    f"{ROLLOUT}.agent.agent_loop_manager_class=null",
    "reward.num_workers=1",
    f"reward.custom_reward_function.path={Path(__file__).with_name('stock_reward.py')}",
    "trainer.checkpoint_callback_class=null",
    "trainer.v1.trainer_mode=sync",
]
SMALL_MICRO_BATCHES = [  # the demo's need too much memory at 448 x 448
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=4",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=4",
]


@dataclass(frozen=True)
class Case:
    """One run: who (stock, ours, or ours with the temporal pair), and its sizes."""

    who: str
    height: int
    group_size: int
    videos: int
    frames: int

    @property
    def steps(self) -> int:
        return PASS_STEPS if self.who == "stock" else 2 * PASS_STEPS


@dataclass(frozen=True)
class Step:
    """What one step cost."""

    seconds: float
    cpu_seconds: float
    peak_gib: float
    moved_mib: float


def make_clips(folder: Path, height: int, count: int, frames: int) -> Path:
    """Clips of one size, each a file of its own; returns their parquet. stock-NAME asks qwen-vl-utils."""
    folder.mkdir()
    parquet = make_parquet(folder, f"{height}p", count)
    request = {"nframes": frames, "resized_height": SIDE, "resized_width": SIDE}
    rows = pyarrow.parquet.read_table(parquet).to_pylist()
    for row in rows:
        row["videos"] = [{**video, **request} for video in row["videos"]]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet.with_name(f"stock-{parquet.name}"))
    return parquet


def overrides(case: Case, model_side: int, model: Path, parquet: Path, output: Path) -> list[str]:
    """The command line of one run."""
    tokens = (case.frames // 2) * (model_side // 28) ** 2 + 256
    files = parquet.with_name(f"stock-{parquet.name}") if case.who == "stock" else parquet
    return [
        "platform=cpu",
        "experiment=demo",
        f"data.train_files={files}",
        f"data.val_files={files}",
        f"data.train_batch_size={case.videos}",
        "data.shuffle=false",
        f"data.max_prompt_length={tokens}",
        f"data.frames.train={{num_frames: {case.frames}, max_pixels: {SIDE * SIDE}}}",
        f"data.frames.cache_bytes={2**31}",
        f"actor_rollout_ref.model.path={model}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={case.videos}",
        *(SMALL_MICRO_BATCHES if model_side == SIDE else []),
        f"{ROLLOUT}.n={case.group_size}",
        f"{ROLLOUT}.max_model_len={tokens + 32}",
        f"{ROLLOUT}.max_num_batched_tokens={max(8192, tokens + 32)}",
        f"vqathinker.temporal.enable={'true' if case.who == 'ours, temporal' else 'false'}",
        f"trainer.total_training_steps={case.steps}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "trainer.n_gpus_per_node=1",
        "trainer.logger=[file]",
        f"trainer.default_local_dir={output}/checkpoints",
        f"hydra.run.dir={output}/hydra",
        "++ray_kwargs.ray_init.address=local",
        *(STOCK if case.who == "stock" else []),
    ]


class Meter:
    """Samples a run's processes; knows processor time and bytes moved so far, and the memory's peak since asked."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peak, self.seen = pid, 0.0, {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def _sample(self) -> None:
        while not self.stopped.wait(1.0):
            total = 0
            for process in descendants(self.pid):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self.seen[process.pid] = times.user + times.system  # one that ends keeps what it had
                    total += process.memory_full_info().pss
            self.peak = max(self.peak, total / 2**30)

    def reading(self) -> tuple[float, float, float]:
        """Processor seconds and MiB moved so far, and the peak in GiB, which starts again."""
        peak, self.peak = self.peak, 0.0
        moved = psutil.net_io_counters(pernic=True)["lo"].bytes_sent / 2**20
        return sum(self.seen.values()), moved, peak


def run(case: Case, model_side: int, model: Path, parquet: Path, output: Path) -> list[Step]:
    """Train, and measure each step but the first.

    Raises:
        RuntimeError: the run failed; the message is the end of its log.
    """
    output.mkdir(parents=True)
    metrics = output / "metrics.jsonl"
    environment = {
        **os.environ,
        **device_environment("cpu"),
        "VERL_FILE_LOGGER_PATH": str(metrics),
        "FORCE_QWENVL_VIDEO_READER": "decord",  # stock; qwen-vl-utils else takes a reader that torchvision 0.26 lacks
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path=pkg://vqathinker_verl.config"]
    command += ["--config-name=vqathinker", *overrides(case, model_side, model, parquet, output)]
    log = output / "train.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=output, env=environment, stdout=file, stderr=subprocess.STDOUT)
    meter = Meter(process.pid)
    steps, before = [], None
    try:
        for seconds in step_times(metrics, process):
            now = meter.reading()
            if before is not None:
                steps.append(Step(seconds, now[0] - before[0], now[2], now[1] - before[1]))
            before = now
    finally:
        meter.stopped.set()
        left = descendants(process.pid)
        process.wait(timeout=120)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    if len(steps) != case.steps - 1:
        text = log.read_text(errors="replace")
        errors = [line for line in text.splitlines() if re.search(r"\bError\b|Error:", line)][:20]
        told = "\n".join([*errors, "...", text[-3000:]])
        raise RuntimeError(f"{case}: {len(steps) + 1} of {case.steps} steps\n{told}")
    return steps


def step_times(metrics: Path, process: subprocess.Popen) -> Iterator[float]:
    """Yield `timing_s/step` of each step as soon as verl has logged it."""
    done = 0
    while True:
        running = process.poll() is None
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        for line in lines[done:]:
            with suppress(json.JSONDecodeError):
                data = json.loads(line)["data"]
                done += 1
                if "timing_s/step" in data:
                    yield data["timing_s/step"]
        if not running:
            return
        time.sleep(0.2)


def median(steps: list[Step]) -> Step:
    """The median of each figure; of the memory the highest."""
    rows = [asdict(step) for step in steps]
    figures = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return Step(**{**figures, "peak_gib": max(row["peak_gib"] for row in rows)})


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """What to run."""
    whole = ("stock", "ours", "ours, temporal")
    if args.growth:
        sizes = [(videos, frames) for videos in (8, 16, 32) for frames in (6, 12)]
        for videos, frames in sizes:
            yield from (Case(who, args.heights[0], args.group_sizes[0], videos, frames) for who in whole[:2])
        return
    for height in args.heights:
        for group_size in args.group_sizes:
            yield from (Case(who, height, group_size, args.videos, args.frames) for who in whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--heights", type=int, nargs="+", default=[540, 1080], choices=[height for height, _ in HEIGHTS.values()]
    )
    parser.add_argument("--group-sizes", type=int, nargs="+", default=[4, 8], metavar="G")
    parser.add_argument("--videos", type=int, default=8, help="videos per step")
    parser.add_argument("--frames", type=int, default=6, help="frames of a video")
    parser.add_argument(
        "--model-side", type=int, default=SIZE, choices=(SIZE, SIDE), help="of the frames that the model sees"
    )
    parser.add_argument("--growth", action="store_true", help="vary videos and frames, at the first height and G")
    parser.add_argument("--list", action="store_true", help="print the runs and start none")
    args = parser.parse_args()
    chosen = list(cases(args))
    if args.list:
        print("\n".join(map(str, chosen)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        processor = make_processor() if args.model_side == SIDE else build_processor()
        save_policy(build_model(processor.tokenizer, seed=0), processor, folder / "model")
        print("who             height  G videos frames pass      s/step   CPU s  peak GiB  MiB moved  stock / this")
        stock: dict[tuple, Step] = {}
        parquets: dict[Path, Path] = {}
        for number, case in enumerate(chosen):
            clips = folder / f"{case.height}-{case.videos}-{case.frames}"
            if clips not in parquets:
                parquets[clips] = make_clips(clips, case.height, case.videos * PASS_STEPS, case.frames)
            steps = run(case, args.model_side, folder / "model", parquets[clips], folder / f"run-{number}")
            sizes = (case.height, case.group_size, case.videos, case.frames)
            passes = {"new": steps[: PASS_STEPS - 1], "cached": steps[PASS_STEPS - 1 :]}
            for name, measured in passes.items():
                if not measured:
                    continue
                found = median(measured)
                if case.who == "stock":
                    stock[sizes] = found
                ratio = f"{stock[sizes].seconds / found.seconds:.1f}" if sizes in stock else "-"
                print(
                    f"{case.who:15} {case.height:6} {case.group_size:2} {case.videos:6} {case.frames:6} {name:7} "
                    f"{found.seconds:8.1f} {found.cpu_seconds:7.1f} {found.peak_gib:9.1f} {found.moved_mib:10.0f} "
                    f"{ratio:>8}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
