"""How much faster a batch of videos is prepared than through stock verl, and what decoding costs.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_frames.py [--videos 32] [--stock-videos 2] [--only decoders]

Five tables, in one run:

1. A batch of 32 videos x 8 responses, from files to the tensors that the trainer stores, at 540p and 1080p, without and
   with the perturbed responses (4 more a video). Stock is verl's own code: RLHFDataset with qwen-vl-utils (decord), the
   single-turn loop's calls, and the worker's second run of the processor, all once a response. Ours is
   VideoQualityDataset with the VideoQualityAgentLoop. Both give 6 frames at 448x448. Every response costs stock the
   same, so stock is timed on the first few videos and scaled; the share that was run is printed.
2. The filter of overlong prompts over 3,500 rows, whose token counts must be equal; stock timed on a few and scaled.
3. Bytes a video takes, held as uint8 and as the float features of the processor.
4. Resizing inside the decoder against decoding and then resizing: PSNR, sharpness, and time.
5. The exact reader against decord on files where decord is exact, with as many threads: by turns, medians of time by
   the clock and of processor time, as ratios.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import av
import datasets
import decord
import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from qwen_vl_utils import vision_process
from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopWorker
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from vqathinker_verl.data.output import write_parquet
from vqathinker_verl.data.probing import probe_records
from vqathinker_verl.data.records import RawLabel, Record
from vqathinker_verl.demo.model import build_processor
from vqathinker_verl.frames import CacheConfig, FrameCache, FrameSpec, segment_centres
from vqathinker_verl.frames.container import resized
from vqathinker_verl.frames.decoding import decode_here
from vqathinker_verl.frames.reader import DECODER_THREADS
from vqathinker_verl.perturbations import PerturbationConfig
from vqathinker_verl.plugin import frame_actor as node_frames
from vqathinker_verl.plugin.agent_loop import VideoQualityAgentLoop, VideoQualityAgentLoopWorker
from vqathinker_verl.plugin.dataset import VideoQualityDataset
from vqathinker_verl.prompts import QUALITY_PROMPT

GROUP_SIZE = 8
PERTURBED = 4
SIDE = 448
NUM_FRAMES = 6
HEIGHTS = {"540p": (540, 960), "1080p": (1080, 1920)}
FILTER_ROWS = 3500
FILTER_LIMIT = 2048


class Moment:
    """A point in time, by the clock and by the processor; the second does not see what else the machine does."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def elapsed(self) -> tuple[float, float]:
        """Seconds since, by the clock and of the processor."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def encode(path: Path, height: int, width: int, num_frames: int = 150, noise: int = 0, **options: str) -> None:
    """Write an H.264 clip of moving detail, 30 frames a second, as cameras write them; `noise` makes it costly."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (height // 4 + 80, width // 4 + 80, 3), np.uint8)
    scene = np.asarray(
        Image.fromarray(scene).resize((width + 2 * num_frames + 20, height + 320), Image.Resampling.BICUBIC)
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23", **options})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(num_frames):
            picture = np.ascontiguousarray(scene[index : index + height, 2 * index : 2 * index + width])
            if noise:
                grain = rng.integers(-noise, noise, picture.shape, dtype=np.int16)
                picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make_parquet(folder: Path, size: str, num_videos: int) -> Path:
    """Clips of one size, each a file of its own, and their parquet with probed sizes."""
    first = folder / f"{size}_0.mp4"
    encode(first, *HEIGHTS[size])
    records = []
    for number in range(num_videos):
        path = folder / f"{size}_{number}.mp4"
        if number:
            path.write_bytes(first.read_bytes())
        label = RawLabel(path.name, path.name, "3", "bench")
        records.append(Record(label, path.name, str(path), 3.0, (1.0, 5.0), path.name))
    records, _ = probe_records(records, folder / f"{size}.jsonl", workers=2, timeout_seconds=20, progress=False)
    write_parquet(folder / f"{size}.parquet", records, "train", QUALITY_PROMPT)
    return folder / f"{size}.parquet"


def make_processor() -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor, letting frames of 448x448 through as they are."""
    demo = build_processor()
    size = {"shortest_edge": 56 * 56, "longest_edge": SIDE * SIDE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(size)),
        tokenizer=demo.tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=dict(size)),
        chat_template=demo.chat_template,
    )


def data_config(folder: Path) -> OmegaConf:
    """The fields of verl's data config that the two dataset classes read."""
    return OmegaConf.create(
        {
            "cache_dir": str(folder / "verl_cache"),
            "filter_overlong_prompts": False,
            "filter_overlong_prompts_workers": None,  # in this process
            "max_prompt_length": FILTER_LIMIT,
            "frames": {
                "train": {"num_frames": NUM_FRAMES, "size": [SIDE, SIDE]},
                "val": {"num_frames": NUM_FRAMES, "size": [SIDE, SIDE]},
            },
        }
    )


def make_dataset(kind: type[RLHFDataset], parquet: Path, processor: Qwen2_5_VLProcessor) -> RLHFDataset:
    """A dataset over a parquet; for stock verl each row asks qwen-vl-utils for the same number of frames and size."""
    dataset = kind(str(parquet), processor.tokenizer, data_config(parquet.parent), processor)
    if kind is RLHFDataset:

        def with_request(row: dict) -> dict:
            request = {"nframes": NUM_FRAMES, "resized_height": SIDE, "resized_width": SIDE}
            return {"videos": [{**video, **request} for video in row["videos"]]}

        dataset.dataframe = dataset.dataframe.map(with_request)
    return dataset


def make_loop(
    kind: type[AgentLoopBase], dataset: RLHFDataset, processor: Qwen2_5_VLProcessor, perturb: bool
) -> AgentLoopBase:
    """An agent loop without its server: everything up to the request, and after it."""
    loop = object.__new__(kind)
    loop.processor, loop.tokenizer = processor, processor.tokenizer
    loop.dataset_cls, loop.data_config = type(dataset), dataset.config
    loop.apply_chat_template_kwargs = {}
    loop.mm_processor_kwargs, loop.loop = {}, asyncio.get_running_loop()
    loop.rollout_config = SimpleNamespace(prompt_length=8192, n=GROUP_SIZE)
    loop.continuous_token_builder = create_continuous_token_builder(
        processor.tokenizer, hf_model_type="qwen2_5_vl", processor=processor
    )
    loop.temporal = SimpleNamespace(
        seed=0, perturbations=PerturbationConfig(), perturbed_per_group=lambda n: PERTURBED if perturb else 0
    )
    return loop


def make_worker(kind: type, processor: Qwen2_5_VLProcessor) -> AgentLoopWorker:
    """The worker's part: the features that the trainer stores."""
    worker = object.__new__(kind)
    worker.processor, worker.tokenizer = processor, processor.tokenizer
    return worker


async def prepare_stock(
    dataset: RLHFDataset, rows: list[int], responses: int, processor: Qwen2_5_VLProcessor
) -> list[dict]:
    """Every response by itself, as the single-turn loop and its worker do."""
    loop = make_loop(SingleTurnAgentLoop, dataset, processor, perturb=False)
    worker = make_worker(AgentLoopWorker, processor)

    async def respond(row: dict) -> dict:
        messages = row["raw_prompt"]
        data = await loop.process_multi_modal_info(messages)
        prompt_ids = await loop.ct_build_initial_tokens(messages, videos=data["videos"], mm_inputs_out={})
        output = SimpleNamespace(multi_modal_data=data, mm_processor_kwargs={})
        return worker._compute_multi_modal_inputs(output, torch.tensor([prompt_ids]))

    return await asyncio.gather(*[respond(dataset[row]) for row in rows for _ in range(responses)])


async def prepare_ours(
    dataset: RLHFDataset, rows: list[int], perturb: bool, processor: Qwen2_5_VLProcessor
) -> list[dict]:
    """The sessions of a prompt share one preparation; the perturbed responses share its frames."""
    loop = make_loop(VideoQualityAgentLoop, dataset, processor, perturb)
    worker = make_worker(VideoQualityAgentLoopWorker, processor)

    async def respond(row: dict, uid: str) -> dict:
        async with loop.prompts.use(
            uid, lambda: loop._prepare({**row, "global_steps": 1}, perturbed=perturb)
        ) as prompt:
            data = {"videos": prompt.videos, "features": prompt.features}
            output = SimpleNamespace(multi_modal_data=data, mm_processor_kwargs={})
            return worker._compute_multi_modal_inputs(output, torch.tensor([prompt.prompt_ids]))

    sessions = [respond(dataset[row], str(row)) for row in rows for _ in range(GROUP_SIZE)]
    return await asyncio.gather(*sessions)


def bench_batch(parquet: Path, size: str, num_videos: int, stock_videos: int, processor: Qwen2_5_VLProcessor) -> None:
    """One line of the first table for each of: without, with the temporal pair."""
    stock_dataset = make_dataset(RLHFDataset, parquet, processor)
    our_dataset = make_dataset(VideoQualityDataset, parquet, processor)
    for perturb in (False, True):
        responses = GROUP_SIZE + (PERTURBED if perturb else 0)
        # What is slow for its first call only.
        asyncio.run(prepare_ours(our_dataset, [0], perturb, processor))
        asyncio.run(prepare_stock(stock_dataset, [0], 1, processor))
        node_frames.process_cache.cache_clear()
        begin = Moment()
        ours = asyncio.run(prepare_ours(our_dataset, list(range(num_videos)), perturb, processor))
        our_wall, our_cpu = begin.elapsed()
        decodes = node_frames.process_cache(CacheConfig()).decodes
        begin = Moment()
        stock = asyncio.run(prepare_stock(stock_dataset, list(range(stock_videos)), responses, processor))
        share = stock_videos / num_videos
        stock_wall, stock_cpu = (seconds / share for seconds in begin.elapsed())
        assert decodes == num_videos, f"{decodes} decodes for {num_videos} videos"
        assert len(ours) == num_videos * GROUP_SIZE
        assert ours[0]["pixel_values_videos"].shape == stock[0]["pixel_values_videos"].shape
        print(
            f"{size:>6} {'with' if perturb else 'without':>8} {stock_wall:>9.1f} s {our_wall:>9.2f} s "
            f"{stock_wall / our_wall:>7.1f} {stock_cpu / our_cpu:>10.1f} {decodes:>8} {share:>6.0%}",
            flush=True,
        )


def keeps(dataset: RLHFDataset, frame: datasets.Dataset, limit: int) -> bool:
    """Whether the filter keeps the first row at a limit of so many tokens."""
    dataset.max_prompt_length = limit
    return len(dataset.maybe_filter_out_long_prompts(frame.select([0]))) == 1


def prompt_length(dataset: RLHFDataset, frame: datasets.Dataset) -> int:
    """Tokens of the first row: the lowest limit at which the filter keeps it."""
    low, high = 1, 2 * FILTER_LIMIT
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(dataset, frame, middle) else (middle + 1, high)
    return low


def bench_filter(parquet: Path, stock_rows: int, processor: Qwen2_5_VLProcessor) -> None:
    """The second table."""
    seconds = {}
    for name, kind, count in (
        ("ours", VideoQualityDataset, FILTER_ROWS),
        ("stock", RLHFDataset, stock_rows),
    ):
        dataset = make_dataset(kind, parquet, processor)
        repeats = -(-count // len(dataset.dataframe))
        frame = datasets.concatenate_datasets([dataset.dataframe] * repeats).select(range(count))
        dataset.filter_overlong_prompts = True
        node_frames.process_cache.cache_clear()
        begin = time.perf_counter()
        dataset.maybe_filter_out_long_prompts(frame)
        seconds[name] = (time.perf_counter() - begin) * FILTER_ROWS / count
        if name == "ours":
            length = prompt_length(dataset, frame)
        else:
            assert keeps(dataset, frame, length), "stock verl counts more tokens"
            assert not keeps(dataset, frame, length - 1), "stock verl counts fewer tokens"
    print(
        f"{FILTER_ROWS} rows: stock {seconds['stock']:.0f} s ({stock_rows} rows run), ours {seconds['ours']:.2f} s, "
        f"ratio {seconds['stock'] / seconds['ours']:.0f}"
    )


def bench_memory(parquet: Path, processor: Qwen2_5_VLProcessor) -> None:
    """The third table."""
    path = parquet.with_name(f"{parquet.stem}_0.mp4")
    for spec in (FrameSpec(6, size=(448, 448)), FrameSpec(12, size=(560, 560))):
        video = FrameCache(CacheConfig(2**30)).get(path, spec)
        float_bytes = np.prod(video.frames.shape) * 4
        print(
            f"{spec.num_frames:>3} x {spec.size[0]}: {video.nbytes / 2**20:.1f} MiB as uint8, "
            f"{float_bytes / 2**20:.1f} MiB as float32 features; 2 GiB hold {2**31 // video.nbytes} videos"
        )


def bench_resize(parquet: Path) -> None:
    """The fourth table: decord's own resizing against Pillow's, on the same frames."""
    path = str(parquet.with_name(f"{parquet.stem}_0.mp4"))
    indices = list(range(12, 150, 25))

    def inside() -> np.ndarray:
        reader = decord.VideoReader(path, width=SIDE, height=SIDE, num_threads=2)
        return np.stack([reader[index].asnumpy() for index in indices])

    def after() -> np.ndarray:
        reader = decord.VideoReader(path, num_threads=2)
        pictures = [Image.fromarray(reader[index].asnumpy()) for index in indices]
        return np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for p in pictures])

    def sharpness(frames: np.ndarray) -> float:
        return float(np.abs(np.diff(frames.astype(float), axis=2)).mean())

    times = {}
    for function in (inside, after):
        samples = []
        for _ in range(3):
            begin = time.perf_counter()
            function()
            samples.append(time.perf_counter() - begin)
        times[function] = statistics.median(samples)
    fast, faithful = inside(), after()
    error = np.mean((fast.astype(float) - faithful) ** 2)
    print(
        f"{parquet.stem:>6}: PSNR {10 * np.log10(255**2 / error):.1f} dB, "
        f"sharpness {sharpness(fast) / sharpness(faithful):.1%} of the faithful one, "
        f"time {times[inside]:.2f} s against {times[after]:.2f} s"
    )


CLIPS = {  # 8 s each
    "540p": {"height": 540, "width": 960},
    "540p, key frame every second": {"height": 540, "width": 960, "g": "30"},
    "1080p": {"height": 1080, "width": 1920},
    "1080p, noisy": {"height": 1080, "width": 1920, "noise": 12, "crf": "18"},
}


def bench_decoders(folder: Path, rounds: int) -> None:
    """The fifth table."""
    spec = FrameSpec(NUM_FRAMES, size=(SIDE, SIDE))

    def with_decord(path: str) -> np.ndarray:
        reader = decord.VideoReader(path, num_threads=DECODER_THREADS)
        pictures = [reader[int(index)].asnumpy() for index in segment_centres(len(reader), NUM_FRAMES)]
        return np.stack([resized(picture, (SIDE, SIDE)) for picture in pictures])

    for number, (name, how) in enumerate(CLIPS.items()):
        path = str(folder / f"decoders_{number}.mp4")
        encode(Path(path), num_frames=240, **how)
        difference = np.abs(decode_here(path, spec).frames.astype(int) - with_decord(path)).max()
        assert difference <= 1, f"{name}: decord is not exact ({difference})"
        seconds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for turn in range(2 * rounds):
            ours = turn % 2 == 0
            begin = Moment()
            decode_here(path, spec) if ours else with_decord(path)
            seconds[ours].append(begin.elapsed())
        wall, cpu = (
            statistics.median(taken[kind] for taken in seconds[True])
            / statistics.median(taken[kind] for taken in seconds[False])
            for kind in (0, 1)
        )
        size = Path(path).stat().st_size / 2**20
        print(f"{name:>30} {size:>6.1f} MiB: {wall:.2f} of decord's time, {cpu:.2f} of its CPU time", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=32)
    parser.add_argument("--stock-videos", type=int, default=2, help="videos that stock is timed on")
    parser.add_argument("--stock-filter-rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each decoder in the last table")
    parser.add_argument("--only", choices=["decoders"], help="print the last table alone")
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as name:
            bench_decoders(Path(name), arguments.rounds)
        return
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    # qwen-vl-utils prefers torchcodec, which cannot load without FFmpeg's shared libraries.
    vision_process.FORCE_QWENVL_VIDEO_READER = "decord"
    vision_process.get_video_reader_backend.cache_clear()
    processor = make_processor()
    with tempfile.TemporaryDirectory() as name:
        parquets = {size: make_parquet(Path(name), size, arguments.videos) for size in HEIGHTS}
        print(f"\n{arguments.videos} videos x {GROUP_SIZE} responses, {NUM_FRAMES} frames at {SIDE}x{SIDE}")
        print(
            f"{'size':>6} {'temporal':>8} {'stock':>11} {'ours':>11} {'ratio':>7} {'of CPU s':>10} "
            f"{'decodes':>8} {'run':>6}"
        )
        for size, parquet in parquets.items():
            bench_batch(parquet, size, arguments.videos, min(arguments.stock_videos, arguments.videos), processor)
        print("\noverlong filter")
        bench_filter(parquets["540p"], arguments.stock_filter_rows, processor)
        print("\nmemory a video")
        bench_memory(parquets["540p"], processor)
        print("\nresizing inside the decoder")
        for parquet in parquets.values():
            bench_resize(parquet)
        print("\nthe exact reader against decord")
        bench_decoders(Path(name), arguments.rounds)


if __name__ == "__main__":
    sys.exit(main())
