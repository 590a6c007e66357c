"""A tiny policy of the real Qwen2.5-VL architecture, with its own tokenizer, chat template and processor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.demo.degradations import DISTORTION_WORDS
from vqathinker_verl.demo.scenes import SIZE
from vqathinker_verl.prompts import QUALITY_PROMPT

# Pixels are divided by this (on the scale 0 to 1), and the patch filters are larger by the same factor. An optimizer of
# Adam's kind moves every weight by about the learning rate, however small the weight is: at Qwen's 0.27 a few GRPO
# steps destroy the fine filters, and with them what the policy sees.
PIXEL_STD = 5.0

DEGREE_WORDS = ("slightly", "clearly", "very")

# In Qwen's order. The tags of the answer are ordinary tokens: they stay when special tokens are skipped in decoding.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
ANSWER_TAGS = ("<think>", "</think>", "<answer>", "</answer>")

# ChatML as Qwen2.5-VL reads it: a message's content is a string, or a list of image, video and text items.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'video' -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- elif item['type'] in ('image', 'image_url') -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif item['type'] == 'text' -%}
{{ item['text'] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def build_tokenizer(questions: Sequence[str] = ()) -> Any:
    """A Qwen2 byte-level BPE tokenizer that knows every word of the prompt and of the answers as one token.

    The same holds for `questions`. Any other text is spelled in bytes, so nothing is unknown. Digits and the point are
    single tokens: a score is four tokens, and the first of them decides most of it.
    """
    from tokenizers import Tokenizer, trainers
    from tokenizers.models import BPE
    from transformers import AddedToken, Qwen2Tokenizer

    corpus = [QUALITY_PROMPT, "system user assistant You are a helpful assistant."]
    corpus += [think_text(distortion, degree) for distortion in DISTORTION_WORDS for degree in range(3)]
    corpus += questions
    blank = Qwen2Tokenizer()
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    alphabet = sorted(_byte_alphabet())
    trainer = trainers.BpeTrainer(vocab_size=5000, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(corpus, trainer)
    learned = json.loads(learner.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in ANSWER_TAGS])
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 2048
    return tokenizer


def _byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def think_text(distortion: str, degree: int) -> str:
    """What a viewer sees, in words without a judgement: "It looks very grainy" (degree 0 slight to 2 strong)."""
    word = DISTORTION_WORDS[distortion]
    return f"It looks {word}" if distortion == "pristine" else f"It looks {DEGREE_WORDS[degree]} {word}"


def build_processor(questions: Sequence[str] = ()) -> Any:
    """Qwen2.5-VL's processor over `build_tokenizer`; frames of at most `SIZE` x `SIZE` pixels."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    size = {"shortest_edge": 56 * 56, "longest_edge": SIZE * SIZE}  # pixels of one frame
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(size), image_std=[PIXEL_STD] * 3),
        tokenizer=build_tokenizer(questions),
        video_processor=Qwen2VLVideoProcessor(size=dict(size), image_std=[PIXEL_STD] * 3),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: Any, seed: int) -> Any:
    """A randomly initialised Qwen2_5_VLForConditionalGeneration in float32, deterministic by `seed`.

    - Attention heads have 32 dimensions, the smallest that vLLM's CPU attention takes.
    - The vocabulary is exactly the tokenizer's: ids beyond it would be banned by vLLM and not by the trainer.
    - The positions of a video's frames count seconds as in the released models (tokens_per_second 2), by the rule of
      `frames.positions`; the model takes them from `second_per_grid_ts`.
    """
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    token_id = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "max_position_embeddings": 2048,
            "initializer_range": 0.05,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "out_hidden_size": 96,
            "window_size": SIZE,
            "fullatt_block_indexes": [2],
            "tokens_per_second": 2,
            "initializer_range": 0.05,
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=False,
        dtype="float32",
    )
    from vqathinker_verl.frames.positions import use_true_times

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        model.model.visual.patch_embed.proj.weight.copy_(torch.from_numpy(_patch_filters(config.vision_config)))
    use_true_times(model.model)
    model.generation_config.eos_token_id = [token_id("<|im_end|>"), token_id("<|endoftext|>")]
    model.generation_config.pad_token_id = token_id("<|endoftext|>")
    return model


def _patch_filters(vision_config: Any) -> NDArray[np.float32]:
    """What the patch embedding starts from: cosines over the patch, on the sum and the difference of its two frames.

    A random embedding mostly passes on the brightness and coarse shape of a patch, which dwarf its fine detail, and
    takes long to find the detail that noise, blur and compression change, or the motion that playback changes.
    So the filters span the frequencies evenly, and gain with frequency what pictures lose in amplitude.

    Returns:
        (hidden_size, 3, 2, patch_size, patch_size): output channel, colour, frame, row, column.
    """
    size, channels = vision_config.patch_size, vision_config.hidden_size
    position = (np.arange(size) + 0.5) * np.pi / size
    steps = np.linspace(0, size - 2, int(np.ceil(np.sqrt(channels / 2))))
    frequencies = sorted(((u, v) for u in steps for v in steps), key=lambda uv: (np.hypot(*uv), uv))
    filters = np.empty((channels, 3, 2, size, size), np.float32)
    for channel in range(channels):
        u, v = frequencies[channel // 2]
        wave = np.outer(np.cos(u * position), np.cos(v * position))
        wave *= (1 + np.hypot(u, v)) / (np.linalg.norm(wave) * size)
        filters[channel] = wave / 3 * (PIXEL_STD / 0.27)
        filters[channel, :, 1] *= 1 if channel % 2 == 0 else -1
    return filters


def save_policy(model: Any, processor: Any, folder: Path) -> None:
    """Write a Hugging Face folder: safetensors weights, configs, tokenizer, processor, chat template."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
