"""Patches of verl that every platform needs.

Each names the verl version it is for, and has a test that fails when verl no longer needs it
(tests/plugin/test_patches.py).
"""

from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import wrap_function_wrapper

from vqathinker_verl.plugin.run_mark import run_of_this_process

if TYPE_CHECKING:
    from tensordict import TensorDict


def keep_layout_of_position_ids(tensordict_utils: Any) -> None:
    """Make `maybe_fix_3d_position_ids` check the layout before it labels it.

    For verl 0.9.1 (issue #7899, open pull request #7901). The position ids of one sequence are (C, L): C mRoPE
    components, L tokens. torch packs a batch of them as values (C, sum L), unless all L are equal (a batch of one
    included): then it takes C for the ragged dimension and packs values (B * C, L). verl labels both as the first, and
    the next `unbind()` raises. Answers of equal length are the rule for a policy that writes a fixed format.

    Args:
        tensordict_utils: the module `verl.utils.tensordict_utils`, before others import the function from it.
    """
    tensordict_utils.maybe_fix_3d_position_ids = fix_3d_position_ids


def fix_3d_position_ids(data: "TensorDict") -> None:
    """Give nested 3-D `position_ids` of `data` the layout values (C, sum L), ragged dimension 2, in place."""
    import torch

    if "position_ids" not in data.keys():
        return
    position_ids = data["position_ids"]
    if not position_ids.is_nested or position_ids.dim() != 3:
        return
    values, offsets = position_ids.values(), position_ids.offsets()
    components_are_ragged = values.shape[0] == int(offsets[-1])
    if components_are_ragged:
        batch_size, length = len(offsets) - 1, values.shape[1]
        values = values.reshape(batch_size, -1, length).transpose(0, 1).reshape(-1, batch_size * length)
        offsets = torch.arange(batch_size + 1, device=offsets.device, dtype=offsets.dtype) * length
        position_ids = torch.nested.nested_tensor_from_jagged(values, offsets)
        data["position_ids"] = position_ids
    data["position_ids"]._ragged_idx = 2


def give_each_run_its_own_sockets(bucketed_weight_transfer: ModuleType) -> None:
    """Make the socket through which weights go to vLLM this run's own.

    For verl 0.9.1. Its path holds the Ray job's id, to keep two runs on one machine apart; but every run that starts a
    Ray of its own is job 01000000 there, and the second run fails to bind, or sends its weights to the first one's
    vLLM. Sender and receiver both carry the run's mark.

    Args:
        bucketed_weight_transfer: the module verl.workers.rollout.vllm_rollout.bucketed_weight_transfer.
    """
    for name in ("BucketedWeightSender", "BucketedWeightReceiver"):
        wrap_function_wrapper(bucketed_weight_transfer, f"{name}.__init__", _init_with_own_socket)


def _init_with_own_socket(init: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    handle, *others = args or (kwargs.pop("zmq_handle"),)
    init(own_socket(handle), *others, **kwargs)


def own_socket(zmq_handle: str) -> str:
    """`zmq_handle` with this run's mark in its file's name; as it is where there is no mark or no file."""
    run = run_of_this_process()
    return zmq_handle.replace("rl-colocate-zmq-", f"rl-colocate-zmq-{run[:12]}-", 1) if run else zmq_handle


TOKENS_A_CHUNK = 512


def take_log_probs_by_chunks(torch_functional: ModuleType) -> None:
    """Make `logprobs_from_logits_v2` take many tokens at once.

    For verl 0.9.1, without flash-attn. It loops over the first dimension to save memory, which was the batch; the FSDP
    engine now gives it (tokens, vocabulary), so it loops over tokens, and autograd goes back through each: a third of
    a step of the demo. (verl's fused kernel in plain torch would do, but fails under FSDP2 when the output layer's
    weights are its own, as Qwen2.5-VL-7B's are: they are sharded apart from the model, and it takes them as they are.)

    Args:
        torch_functional: the module verl.utils.torch_functional.
    """
    wrap_function_wrapper(torch_functional, "logprobs_from_logits_v2", _by_chunks)


def _by_chunks(stock: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import torch

    logits, labels = args or (kwargs["logits"], kwargs["labels"])
    if logits.dim() != 2:
        return stock(logits, labels)
    chunks = zip(logits.split(TOKENS_A_CHUNK), labels.split(TOKENS_A_CHUNK), strict=True)
    return torch.cat([stock(chunk[None], chunk_labels[None])[0] for chunk, chunk_labels in chunks])


def read_features_once_per_prompt(transferqueue_utils: ModuleType) -> None:
    """Put the features, which our agent loop stores once per prompt, into the rows that a worker has read.

    For verl 0.9.1, which stores the processor's output with each response and has no hook between a worker's read and
    its use. All reads of the workers go through this function (`tqbridge`); the trainer's own do not. The test that
    counts stock verl's bytes is in tests/plugin/test_features.py.

    Args:
        transferqueue_utils: the module verl.utils.transferqueue_utils.
    """
    wrap_function_wrapper(transferqueue_utils, "_async_meta_to_realdata", _read_with_features)


async def _read_with_features(read: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from vqathinker_verl.plugin.features import with_features

    return await with_features(await read(*args, **kwargs))


VISION_TOWERS = ("visual", "vision_tower")  # what transformers calls it: Qwen-VL, InternVL


def heed_freeze_vision_tower(engine_workers: ModuleType) -> None:
    """Make `actor.freeze_vision_tower` do what verl's config says of it: the vision tower is not trained.

    For verl 0.9.1, which has the field (trainer/config/actor/actor.yaml) and reads it nowhere. The worker's own seam,
    `actor_worker_cls`, is where the actor's engine can be told apart from the reference's.

    Args:
        engine_workers: the module verl.workers.engine_workers.
    """
    stock = engine_workers.ActorRolloutRefWorker.actor_worker_cls

    def actor_worker_cls(worker: Any) -> Any:
        return partial(_with_frozen_vision, stock) if worker.config.actor.get("freeze_vision_tower") else stock

    engine_workers.ActorRolloutRefWorker.actor_worker_cls = property(actor_worker_cls)


def _with_frozen_vision(stock: Any, config: Any) -> Any:
    actor = stock(config=config)
    build_module = actor.engine._build_module  # of verl's FSDP engine; it shards what this returns
    actor.engine._build_module = lambda: freeze_vision_tower(build_module())
    return actor


def freeze_vision_tower(module: Any) -> Any:
    """Switch off the gradients of a transformers model's vision tower, in place; returns the model.

    Raises:
        ValueError: it has none under a name that is known here.
    """
    inner = getattr(module, "model", module)
    towers = [getattr(inner, name) for name in VISION_TOWERS if hasattr(inner, name)]
    if not towers:
        raise ValueError(
            f"actor.freeze_vision_tower: {type(module).__name__} has no {' or '.join(VISION_TOWERS)}; switch it off, "
            "or add the name to VISION_TOWERS"
        )
    for tower in towers:
        tower.requires_grad_(False)
    return module


HF_PROCESSOR_MODULES = ("verl.utils.tokenizer.tokenizer", "verl.utils.tokenizer", "verl.utils")


def admit_internvl(module: ModuleType) -> None:
    """Make `hf_processor` return InternVL's processor.

    For verl 0.9.1, which knows processors by name and gives None, with a warning, for one that it does not know. To
    those that it knows it binds `get_rope_index`; InternVL's positions are plain, so there is nothing to bind.

    Args:
        module: one of HF_PROCESSOR_MODULES; verl has imported them, one from the other, before it loads its plugins.
    """
    wrap_function_wrapper(module, "hf_processor", _hf_processor_or_internvl)


def _hf_processor_or_internvl(stock: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoProcessor

    config = AutoConfig.from_pretrained(*args, **kwargs)
    if config.model_type != "internvl":
        return stock(*args, **kwargs)
    processor = AutoProcessor.from_pretrained(*args, **kwargs)
    processor.config = config
    return processor


def use_times_of_the_rollouts(processor: Any, dtype: str) -> None:
    """Let the trainer's positions be those that vLLM samples with, on Qwen2.5-VL; in place.

    For verl 0.9.1, which binds transformers' `get_rope_index` to the processor: that follows another rule
    (frames/positions.py), and verl leaves the seconds out of its call. `get_rope_index_kwargs` is verl's hook for such
    arguments. The agent loop worker calls this, because the processor that it computes positions with is its own.

    Args:
        processor: the one that verl's `hf_processor` made.
        dtype: `actor_rollout_ref.rollout.dtype`; vLLM rounds the seconds to it.

    Raises:
        ValueError: `dtype` is no torch dtype, such as "auto".
    """
    import torch

    from vqathinker_verl.frames.positions import QWEN2_5_VL, in_model_dtype, use_true_times

    if processor is None or processor.config.model_type != QWEN2_5_VL:
        return
    rollout_dtype = getattr(torch, dtype, None)
    if not isinstance(rollout_dtype, torch.dtype):
        raise ValueError(f"actor_rollout_ref.rollout.dtype is {dtype}; expected bfloat16, float16 or float32")
    use_true_times(processor)
    processor.get_rope_index_kwargs = lambda features: (
        {"second_per_grid_ts": in_model_dtype(features["second_per_grid_ts"], rollout_dtype)}
        if "video_grid_thw" in features
        else {}
    )
