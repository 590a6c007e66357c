from functools import cache

import numpy as np
import pytest
from helpers.plan_config import plan_config

from vqathinker_verl.demo.model import build_processor
from vqathinker_verl.frames.spec import FrameSpec
from vqathinker_verl.plan import model as module
from vqathinker_verl.plan.tokens import frame_spec, prompt_tokens, text_tokens, video_patches
from vqathinker_verl.prompts import QUALITY_PROMPT

load_model = cache(module.load_model)
QWEN25, QWEN3, INTERNVL = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct", "OpenGVLab/InternVL3-8B-hf"


def tokens_of(path, split, height=1080, width=1920):
    model = load_model(path)
    return prompt_tokens(model, path, frame_spec(plan_config(), split, model), height, width)


def test_qwen2_5_vl():
    # 200,704 pixels in the shape of 1080 x 1920, sides multiples of 28: 336 x 588, 12 x 21 tokens, three pairs.
    assert tokens_of(QWEN25, "train").video == 3 * 12 * 21
    # 313,600 pixels: 392 x 728, 14 x 26 tokens, six pairs. A square video of 560 uses the budget up: 20 x 20.
    assert tokens_of(QWEN25, "val").video == 6 * 14 * 26
    assert tokens_of(QWEN25, "val", 560, 560).video == 6 * 20 * 20


def test_qwen3_vl_has_larger_patches_and_writes_time_stamps():
    # Multiples of 32: 320 x 576, 10 x 18 tokens, three pairs; a stamp of 9 tokens for each.
    prompt = tokens_of(QWEN3, "train")
    assert prompt.video == 3 * 10 * 18
    assert prompt.text == text_tokens(QWEN3, "qwen3_vl")[0] + 3 * 9


def test_internvl_spends_256_tokens_on_every_frame():
    model = load_model(INTERNVL)
    spec = FrameSpec(6, size=(448, 448))
    assert prompt_tokens(model, INTERNVL, spec, 1080, 1920).video == 6 * 256
    assert video_patches(model, spec, 1080, 1920) == 6 * 32 * 32


@pytest.mark.parametrize(("num_frames", "pairs"), [(6, 3), (7, 4)])
def test_patches_come_in_pairs_of_frames(num_frames, pairs):
    model = load_model(QWEN25)
    assert video_patches(model, FrameSpec(num_frames, size=(448, 448)), 1080, 1920) == pairs * 32 * 32


def test_without_a_tokenizer_the_text_is_estimated_and_marked():
    prompt = tokens_of(QWEN25, "train")
    assert not prompt.exact
    # 401 characters of question at 4 a token, 30 of the chat template, two markers around the video.
    assert prompt.text == 101 + 30 + 2
    assert prompt.total == prompt.video + prompt.text


def test_a_local_tokenizer_counts_what_the_processor_will_write(tmp_path):
    processor = build_processor()
    processor.save_pretrained(tmp_path)
    content = [{"type": "video"}, {"type": "text", "text": QUALITY_PROMPT}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    frames = np.zeros((6, 3, 84, 84), dtype=np.uint8)
    written = processor(text=[text], videos=[frames], do_sample_frames=False)["input_ids"][0]

    prompt = prompt_tokens(load_model(QWEN25), str(tmp_path), FrameSpec(6, size=(84, 84)), 84, 84)
    assert prompt.exact
    assert prompt.total == len(written)
