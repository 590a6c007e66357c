"""A model folder, a video and label files that the checks before a run accept."""

import pyarrow as pa
import pyarrow.parquet

from vqathinker_verl.prompts import QUALITY_PROMPT, video_messages


def row(video, number, **changes):
    fields = {
        "data_source": "demo",
        "prompt": video_messages(QUALITY_PROMPT),
        "videos": [{"video": str(video)}],
        "ability": "video_quality",
        "reward_model": {"style": "rule", "ground_truth": 3.0},
        "extra_info": {"index": number, "split": "train", "video_id": f"demo/{number}"},
    }
    return fields | changes


def write_inputs(folder):
    """Fill `folder` with model/, video.mp4, train.parquet (16 rows) and val.parquet; returns the options for them."""
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"vision_config": {}}')
    (folder / "model" / "model.safetensors").touch()
    video = folder / "video.mp4"
    video.write_bytes(b"video")
    for name, num_rows in (("train", 16), ("val", 1)):
        rows = [row(video, number) for number in range(num_rows)]
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return [f"--{name}={folder}/{path}" for name, path in
            (("model", "model"), ("train", "train.parquet"), ("val", "val.parquet"))]  # fmt: skip
