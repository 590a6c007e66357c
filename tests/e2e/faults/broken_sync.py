"""A fault for VERL_USE_EXTERNAL_MODULES: vLLM's worker fails while it receives weights from the trainer."""

from wrapt import register_post_import_hook


def _break(module):
    def fail(self, *args, **kwargs):
        raise RuntimeError("injected: the receiver of the weights failed")

    module.vLLMColocateWorkerExtension.update_weights_from_ipc = fail


register_post_import_hook(_break, "verl.workers.rollout.vllm_rollout.utils")
