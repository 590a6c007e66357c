"""Tokens of a prompt: the video's, counted exactly, and the text's, counted where a tokenizer is at hand."""

import math
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from vqathinker_verl.frames.spec import FrameSpec, VideoInfo, video_tokens
from vqathinker_verl.plan.model import Model
from vqathinker_verl.plugin.config import plain
from vqathinker_verl.prompts import QUALITY_PROMPT, chat_messages

# Where no tokenizer is at hand: English takes 4 characters a token or a little more, and the chat template's own
# tokens (roles, a short system prompt) are about 30.
CHARACTERS_PER_TOKEN = 4
CHAT_TOKENS = 30
# Text that a processor writes between frames: "<12.3 seconds>" and two markers; "Frame1: ", two markers, a new line.
QWEN3_VL_STAMP = 9
INTERNVL_STAMP = 7
MARKERS = 2
# What a chat template writes for a video, before the processor puts the frames there.
PLACEHOLDERS = {"qwen2_5_vl": 3, "qwen3_vl": 3, "internvl": 1}


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of one prompt; `exact` says whether its text was counted or estimated."""

    video: int
    text: int
    exact: bool

    @property
    def total(self) -> int:
        """Tokens of the complete prompt."""
        return self.video + self.text


def frame_spec(config: DictConfig, split: str, model: Model) -> FrameSpec:
    """Which frames `data.frames.train` or `data.frames.val` asks for."""
    fields = plain(config.data.frames[split])
    return FrameSpec(**fields, factor=model.patch * model.merge)


def prompt_tokens(model: Model, path: str, spec: FrameSpec, height: int, width: int) -> PromptTokens:
    """Tokens of the standard question about a video.

    Args:
        model: The architecture.
        path: The model's path; its tokenizer counts the text if it lies there.
        spec: The frames taken.
        height: Of the source video, in pixels.
        width: Of the source video, in pixels.
    """
    text, exact = text_tokens(path, model.family)
    if model.family == "internvl":  # every frame is resized to the one size there is
        return PromptTokens(
            spec.num_frames * model.config.image_seq_length, text + spec.num_frames * INTERNVL_STAMP, exact
        )
    video = video_tokens(VideoInfo("", spec.num_frames, 1.0, height, width), spec, model.patch, model.merge)
    stamps = math.ceil(spec.num_frames / 2) * QWEN3_VL_STAMP if model.family == "qwen3_vl" else MARKERS
    return PromptTokens(video, text + stamps, exact)


def video_patches(model: Model, spec: FrameSpec, height: int, width: int) -> int:
    """Patches of a video, as the vision encoder sees them; Qwen's encoders take frames in pairs."""
    new_height, new_width = spec.target_size(height, width)
    images = spec.num_frames if model.family == "internvl" else math.ceil(spec.num_frames / 2)
    return images * (new_height // model.patch) * (new_width // model.patch)


def text_tokens(path: str, family: str) -> tuple[int, bool]:
    """Tokens of the question in its chat template without the video, and whether they were counted or estimated."""
    folder = Path(path).expanduser()
    if (folder / "tokenizer_config.json").is_file():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        if tokenizer.chat_template:
            messages = chat_messages(QUALITY_PROMPT)
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return len(tokenizer(text, add_special_tokens=False)["input_ids"]) - PLACEHOLDERS[family], True
    return math.ceil(len(QUALITY_PROMPT) / CHARACTERS_PER_TOKEN) + CHAT_TOKENS, False
