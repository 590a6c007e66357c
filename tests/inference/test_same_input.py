"""Scoring shows a model what training's validation shows it: the same token ids, the same pixels."""

import dataclasses

import numpy as np
import pytest
import torch
import yaml

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.inference.engines import EVALUATION_FRAMES
from vqathinker_verl.inference.engines.prompting import Prompting, frames_and_metadata
from vqathinker_verl.prompts import QUALITY_PROMPT, chat_messages


def test_the_default_frames_are_those_of_the_validation():
    recipe = yaml.safe_load((CONFIG_DIR / "vqathinker.yaml").read_text())["data"]["frames"]["val"]
    assert FrameSpec(**recipe) == EVALUATION_FRAMES


@pytest.mark.parametrize("experiment", ["demo", "full"])
def test_token_ids_and_pixels_are_those_of_the_agent_loop(experiment, tiny_model, clips):
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    from vqathinker_verl.config.compose import composed
    from vqathinker_verl.plugin.dataset import VideoQualityDataset

    paths = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=c"]
    config = composed(CONFIG_DIR, "vqathinker", ["platform=cpu", f"experiment={experiment}", *paths]).data
    prompting = Prompting(str(tiny_model), FrameSpec(**config.frames.val))

    content = [{"type": "video", "video": str(clips[0]), "split": "val"}, {"type": "text", "text": QUALITY_PROMPT}]
    messages = [{"role": "user", "content": content}]
    processor = prompting.processor
    _, (video,), _ = VideoQualityDataset._process_multi_modal_info(
        messages, processor.image_processor.patch_size, config
    )
    builder = create_continuous_token_builder(
        processor.tokenizer, hf_model_type="qwen2_5_vl", chat_template_kwargs={}, processor=processor
    )
    features = {}
    prompt_ids = builder.build_initial_tokens(messages, videos=[video], mm_inputs_out=features)

    decoded = decode(clips[0], prompting.frames)
    frames, metadata = frames_and_metadata(decoded)
    assert torch.equal(frames, video[0])
    assert metadata == video[1]
    ours = prompting.features(QUALITY_PROMPT, decoded)
    assert ours["input_ids"][0].tolist() == list(prompt_ids)
    assert torch.equal(ours["pixel_values_videos"], features["pixel_values_videos"])
    assert torch.equal(ours["video_grid_thw"], features["video_grid_thw"])


def test_the_chat_is_what_verls_dataset_makes_of_a_row(tiny_model):
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from vqathinker_verl.prompts import video_messages

    row = {"prompt": video_messages(QUALITY_PROMPT), "videos": ["a.mp4"]}
    stand_in = type("Keys", (), {"image_key": "images", "video_key": "videos", "audio_key": "audios", "processor": 1})
    (message,) = RLHFDataset._build_messages(stand_in, row, "prompt")
    (ours,) = chat_messages(QUALITY_PROMPT)
    kept = [{name: value for name, value in item.items() if name != "video"} for item in message["content"]]
    assert kept == ours["content"]
    assert message["role"] == ours["role"]


def test_the_factor_and_the_temporal_patch_are_the_models_own(tiny_model):
    asked_for = FrameSpec(4, max_pixels=3136, factor=32)
    assert Prompting(str(tiny_model), asked_for).frames == dataclasses.replace(asked_for, factor=28, image_frames=2)


def test_an_answer_prefix_goes_where_the_response_begins(tiny_model):
    plain, begun = (Prompting(str(tiny_model), EVALUATION_FRAMES, prefix) for prefix in ("", "<answer>"))
    assert begun.text("Q") == plain.text("Q") + "<answer>"
    assert plain.text("Q").endswith("<|im_start|>assistant\n")


def test_the_frames_handed_over_are_a_copy(clips, tiny_model):
    decoded = decode(clips[0], FrameSpec(4, max_pixels=3136))
    frames, _ = frames_and_metadata(decoded)
    frames.zero_()
    assert np.any(decoded.frames)
