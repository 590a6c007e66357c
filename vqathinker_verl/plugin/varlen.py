"""Windowed vision attention of Qwen2.5-VL in one call per layer: a switch, off until it has been seen on a GPU.

transformers 5.9 calls sdpa once for each window, 1,512 times for one video of the 7B recipe, unless flash-attn is
installed. torch 2.11 has an attention over sequences of different lengths of its own (`torch.nn.attention.varlen`,
forward and backward), which needs nothing else. Its kernel runs on GPUs alone, in bf16 or fp16.

    actor_rollout_ref.model.override_config.vision_config.varlen_attention=true

verl copies `override_config` into the model's config, so both the actor and the reference model see the switch. vLLM
has its own vision tower.
"""

from types import ModuleType
from typing import Any

from wrapt import wrap_function_wrapper

FIELD = "varlen_attention"  # of the model's vision config


def attend_by_varlen(modeling: ModuleType) -> None:
    """Make the vision tower of Qwen2.5-VL read the switch.

    Args:
        modeling: the module transformers.models.qwen2_5_vl.modeling_qwen2_5_vl.
    """
    wrap_function_wrapper(modeling, "Qwen2_5_VLVisionAttention.forward", _forward)


def _forward(stock: Any, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not getattr(attention.config, FIELD, False):
        return stock(*args, **kwargs)
    return _varlen_forward(attention, *args, **kwargs)


def _varlen_forward(
    attention: Any,
    hidden_states: Any,
    cu_seqlens: Any,
    rotary_pos_emb: Any = None,
    position_embeddings: Any = None,
    **_: Any,
) -> Any:
    """`Qwen2_5_VLVisionAttention.forward` with one attention for all windows (tokens, width) -> (tokens, width)."""
    from torch.nn.attention import varlen
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

    tokens = hidden_states.shape[0]
    queries, keys, values = attention.qkv(hidden_states).reshape(tokens, 3, attention.num_heads, -1).unbind(1)
    queries, keys = apply_rotary_pos_emb_vision(queries, keys, *position_embeddings)
    borders = cu_seqlens.to("cpu")  # once a layer; sdpa's windows wait for the same
    longest = int((borders[1:] - borders[:-1]).max())
    attended: Any = varlen.varlen_attn(
        queries.to(values.dtype), keys.to(values.dtype), values.contiguous(), cu_seqlens.int(), cu_seqlens.int(),
        longest, longest, scale=attention.scaling,
    )  # fmt: skip
    return attention.proj(attended.reshape(tokens, -1))
