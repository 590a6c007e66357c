"""The dataset class over real parquet, real clips and a real processor."""

import asyncio
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from omegaconf import open_dict
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn, get_dataset_class
from verl.utils.tokenizer import build_multimodal_processor_inputs

from vqathinker_verl.config.compose import composed
from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.demo.model import build_processor
from vqathinker_verl.frames import segment_centres
from vqathinker_verl.plugin import dataset as module
from vqathinker_verl.plugin.config import cache_config
from vqathinker_verl.plugin.frame_actor import process_cache
from vqathinker_verl.prompts import QUALITY_PROMPT, question_about, video_messages

SIZES = [(84, 84), (112, 196), (240, 320), (168, 56)]
IMAGES = (1, 2, 7)  # of the rows


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture
def data_config(recipe_config_dir):
    paths = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=c"]
    config = composed(recipe_config_dir, "vqathinker", ["platform=cpu", "experiment=demo", *paths]).data
    with open_dict(config):
        config.frames.val.num_frames = 8
        for section in (config.frames.train, config.frames.val):  # what the demo's processor takes as it is
            section.min_pixels, section.max_pixels = 56 * 56, 84 * 84
    return config


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """A row per size and split, of videos and images; half lack the metadata that `prepare` writes."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    rows = []
    for number, (height, width) in enumerate(SIZES * 2):
        is_image = number in IMAGES
        path = folder / (f"{number}.png" if is_image else f"{number}.mp4")
        pictures = rng.integers(0, 255, (1 if is_image else 10, height, width, 3), dtype=np.uint8)
        if is_image:
            Image.fromarray(pictures[0]).save(path)
        else:
            path.write_bytes(encode_h264(pictures, 24))
        info = {"index": number, "split": "train" if number < len(SIZES) else "val", "video_id": f"demo/{number}"}
        opened = number % 2 == 0
        metadata = {"total_frames": len(pictures), "fps": 24.0, "height": height, "width": width}
        info |= {name: value if opened else None for name, value in metadata.items()}
        rows.append(
            {
                "data_source": "demo",
                "prompt": video_messages(question_about(QUALITY_PROMPT, image=is_image)),
                "videos": [{"video": str(path)}],
                "reward_model": {"style": "rule", "ground_truth": 3.0},
                "extra_info": info,
            }
        )
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return str(folder / "rows.parquet")


def make(parquet, config, processor):
    return module.VideoQualityDataset([parquet], processor.tokenizer, config, processor)


def videos_of(row, config):
    _, videos, _ = asyncio.run(
        module.VideoQualityDataset.process_multi_modal_info(row["raw_prompt"], image_patch_size=14, config=config)
    )
    return videos


def test_verl_loads_it_by_the_recipes_path(data_config):
    assert get_dataset_class(data_config) is module.VideoQualityDataset


def test_training_and_validation_rows_have_their_own_frames(parquet, data_config, processor):
    dataset = make(parquet, data_config, processor)
    for number in (0, len(SIZES)):
        section = data_config.frames.train if number == 0 else data_config.frames.val
        frames, metadata = videos_of(dataset[number], data_config)[0]
        assert frames.dtype == torch.uint8
        assert frames.shape[:2] == (section.num_frames, 3)
        assert frames.shape[2] % 28 == frames.shape[3] % 28 == 0
        assert metadata["frames_indices"] == segment_centres(10, section.num_frames).tolist()
        assert metadata["total_num_frames"] == 10


def test_the_prompts_of_a_batch_name_their_videos_and_frames(parquet, data_config, processor):
    """From a batch of verl's dataloader, before any worker has seen it, with the frames that a worker asks for."""
    dataset = make(parquet, data_config, processor)
    batch = collate_fn([dataset[0], dataset[len(SIZES)]])
    shown = [module.frames_shown(messages, 14, data_config) for messages in batch["raw_prompt"]]
    paths = [row["videos"][0]["video"] for row in (dataset.dataframe[0], dataset.dataframe[len(SIZES)])]
    assert shown == [
        [(paths[0], module.frame_spec("train", 14, data_config, image_frames=2))],
        [(paths[1], module.frame_spec("val", 14, data_config, image_frames=2))],
    ]


def test_prompt_tokens_without_decoding_are_the_processors(parquet, data_config, processor):
    dataset = make(parquet, data_config, processor)
    for number in range(2 * len(SIZES)):
        counted = dataset.prompt_tokens(dataset.dataframe[number])
        row = dataset[number]
        text = processor.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
        videos = videos_of(row, data_config)
        real = build_multimodal_processor_inputs(processor, text=[text], videos=videos)["input_ids"].shape[1]
        assert counted == real


@pytest.mark.parametrize("true_times", [True, False])
def test_an_image_has_the_frames_of_one_temporal_patch(parquet, data_config, processor, true_times):
    with open_dict(data_config):
        data_config.frames.true_times = true_times
    dataset = make(parquet, data_config, processor)
    pad = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    for number in IMAGES:
        row = dataset[number]
        assert module.shows_image(row["raw_prompt"])
        (video,) = videos_of(row, data_config)
        assert len(video[0]) == 2
        assert torch.equal(*video[0])
        text = processor.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
        assert "image quality assessment task" in text
        features = build_multimodal_processor_inputs(processor, text=[text], videos=[video])
        assert features["video_grid_thw"][0, 0] == 1
        assert np.isfinite(float(features["second_per_grid_ts"][0]))
        _, height, width = features["video_grid_thw"][0].tolist()
        assert (features["input_ids"] == pad).sum() == height * width // 4
    assert not module.shows_image(dataset[0]["raw_prompt"])


def test_overlong_prompts_are_left_out_and_reported(parquet, data_config, processor, caplog):
    whole = make(parquet, data_config, processor)
    lengths = [whole.prompt_tokens(row) for row in whole.dataframe]
    limit = sorted(lengths)[len(lengths) // 2]
    with open_dict(data_config):
        data_config.filter_overlong_prompts = True
        data_config.max_prompt_length = limit
    decodes = process_cache(cache_config(data_config)).decodes
    with caplog.at_level(logging.WARNING):
        kept = make(parquet, data_config, processor)
    assert len(kept) == sum(length <= limit for length in lengths) < len(lengths)
    assert f"of {len(lengths)} prompts are longer" in caplog.text
    assert process_cache(cache_config(data_config)).decodes == decodes


def test_a_processor_that_writes_more_than_placeholders_gets_verls_own_filter(
    parquet, data_config, processor, monkeypatch
):
    asked = []
    monkeypatch.setattr(RLHFDataset, "maybe_filter_out_long_prompts", lambda self, frame: asked.append(1) or frame)
    monkeypatch.setattr(module, "COUNTED_PROCESSORS", ())
    with open_dict(data_config):
        data_config.filter_overlong_prompts = True
    make(parquet, data_config, processor)
    assert asked


def test_missing_or_wrong_frame_settings_are_named(data_config):
    with open_dict(data_config):
        data_config.frames.val = None
    with pytest.raises(ValueError, match=r"data\.frames\.val"):
        module.frame_spec("val", 14, data_config)
    with open_dict(data_config):
        data_config.frames.train.number_of_frames = 3
    with pytest.raises(ValueError, match="number_of_frames"):
        module.frame_spec("train", 14, data_config)
