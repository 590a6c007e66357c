"""Tiny random models of the architectures that the recipes train; their answers are noise, what runs them is not."""

import tempfile
from pathlib import Path

import torch
import transformers

from vqathinker_verl.demo.model import CHAT_TEMPLATE, build_model, build_processor, build_tokenizer, save_policy

SIDE = {"qwen2_5_vl": 84, "qwen3_vl": 96, "internvl": 112}  # of a frame
POSITIONS = 8192  # the recipes set max_model_len=6144


def save_tiny(architecture: str, folder: Path) -> None:
    """Write a random model of `architecture` (a key of SIDE) as a Hugging Face folder."""
    model, processor = {"qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "internvl": _internvl}[architecture]()
    save_policy(model, processor, folder)


def _qwen2_5_vl():
    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0)
    model.config.text_config.max_position_embeddings = POSITIONS
    return model, processor


def _qwen3_vl():
    tokenizer = build_tokenizer()
    token_id = tokenizer.convert_tokens_to_ids
    size = {"shortest_edge": 64 * 64, "longest_edge": 64 * SIDE["qwen3_vl"] ** 2}  # of a whole video
    processor = transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(patch_size=16, size=dict(size)),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen3VLVideoProcessor(size=dict(size)),
        chat_template=CHAT_TEMPLATE,
    )
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": POSITIONS,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]},
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "out_hidden_size": 64,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=False,
        dtype="float32",
    )
    return _random(transformers.Qwen3VLForConditionalGeneration, config, tokenizer), processor


def _internvl():
    tokens = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    with tempfile.TemporaryDirectory() as folder:  # only loading makes attributes of them
        build_tokenizer().save_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, extra_special_tokens=tokens)
    size = {"height": SIDE["internvl"], "width": SIDE["internvl"]}
    template = CHAT_TEMPLATE.replace("<|vision_start|><|video_pad|><|vision_end|>", "<video>\n").replace(
        "<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n"
    )
    tokenizer.chat_template = template
    processor = transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(size=dict(size)),
        tokenizer=tokenizer,
        video_processor=transformers.InternVLVideoProcessor(size=dict(size)),
        image_seq_length=16,
        chat_template=template,
    )
    config = transformers.InternVLConfig(
        text_config={
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],  # by which vLLM finds the language model
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": POSITIONS,
            "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
            "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        },
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "image_size": [SIDE["internvl"]] * 2,
            "patch_size": [14, 14],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=16,
        dtype="float32",
    )
    return _random(transformers.InternVLForConditionalGeneration, config, tokenizer), processor


def _random(model_class, config, tokenizer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    model.generation_config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return model.float()
