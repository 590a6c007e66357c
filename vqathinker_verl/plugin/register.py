"""The `verl.plugins` entry point: verl imports this module in every process that imports verl.

About ten processes do, so nothing heavy is imported here. What must wait for a module of verl's is hung on that
module's import with `wrapt`'s post-import hooks: it runs in the processes that use the module and costs the others
nothing. verl logs errors of this module at DEBUG level and continues; `vqathinker doctor` shows them, and a run whose
plugin did not load stops in the trainer's look-up (`Unknown trainer 'vqathinker_sync'`).
"""

import os
from types import ModuleType

from wrapt import register_post_import_hook

from vqathinker_verl.plugin import patches, varlen


def _register_trainers(_: ModuleType) -> None:
    from vqathinker_verl.plugin import trainer  # noqa: F401 (registers its classes by name)


register_post_import_hook(_register_trainers, "verl.trainer.ppo.v1")
register_post_import_hook(patches.keep_layout_of_position_ids, "verl.utils.tensordict_utils")
register_post_import_hook(patches.take_log_probs_by_chunks, "verl.utils.torch_functional")
register_post_import_hook(patches.read_features_once_per_prompt, "verl.utils.transferqueue_utils")
register_post_import_hook(patches.heed_freeze_vision_tower, "verl.workers.engine_workers")
register_post_import_hook(varlen.attend_by_varlen, "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl")
for module_name in patches.HF_PROCESSOR_MODULES:
    register_post_import_hook(patches.admit_internvl, module_name)
register_post_import_hook(
    patches.give_each_run_its_own_sockets, "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"
)

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    from vqathinker_verl.cpu import platform as platform_cpu

    platform_cpu.install()
