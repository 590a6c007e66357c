"""A micro-batch of an image and a video, as verl joins them for the trainer's forward pass, on each architecture."""

import numpy as np
import pytest
import torch
from helpers.tiny_models import SIDE, save_tiny
from PIL import Image
from transformers import AutoModelForImageTextToText
from verl.utils.model import extract_multi_modal_inputs

from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.frames.positions import use_true_times
from vqathinker_verl.inference.engines.prompting import Prompting


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    pictures = np.random.default_rng(0).integers(0, 255, (12, 112, 140, 3), dtype=np.uint8)
    Image.fromarray(pictures[0]).save(folder / "a.png")
    (folder / "a.mp4").write_bytes(encode_h264(pictures, 18))
    return [folder / "a.png", folder / "a.mp4"]


@pytest.mark.parametrize("architecture", SIDE)
def test_each_row_gets_the_logits_that_it_has_alone(architecture, media, tmp_path):
    save_tiny(architecture, tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    use_true_times(model.model)
    prompting = Prompting(str(tmp_path / "model"), FrameSpec(6, size=(SIDE[architecture],) * 2))
    rows = [dict(prompting.features("Q", decode(path, prompting.frames))) for path in media]
    lengths = [row["input_ids"].shape[1] for row in rows]
    assert lengths[0] < lengths[1]
    with torch.no_grad():
        alone = [model(**row).logits[0] for row in rows]

    def padded(name):  # on the right, with 0
        return torch.stack([torch.nn.functional.pad(row.pop(name)[0], (0, max(lengths) - length))
                            for row, length in zip(rows, lengths, strict=True)])  # fmt: skip

    text = {name: padded(name) for name in ("input_ids", "attention_mask", "mm_token_type_ids") if name in rows[0]}
    features = extract_multi_modal_inputs(
        [{name: torch.as_tensor(value) for name, value in row.items()} for row in rows]
    )
    with torch.no_grad():
        together = model(**text, **features).logits
    for row, length, expected in zip(together, lengths, alone, strict=True):
        torch.testing.assert_close(row[:length], expected, atol=1e-5, rtol=1e-4)
