"""Writes a line to the file WEIGHT_SYNCS for each weight update of vLLM and each reset of its encoder cache.

Each line begins with the process id. Without a GPU, vLLM's worker runs in its engine's process.

Python imports this module in every process of a run whose PYTHONPATH has this folder.
"""

import os
from types import ModuleType

from wrapt import register_post_import_hook, wrap_function_wrapper


def note(line: str) -> None:
    file = os.open(os.environ["WEIGHT_SYNCS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{os.getpid()} {line}\n".encode())
    os.close(file)


def noting(line: str):
    def wrapper(wrapped, instance, args, kwargs):
        result = wrapped(*args, **kwargs)
        note(line)
        return result

    return wrapper


def watch_weights(module: ModuleType) -> None:
    wrap_function_wrapper(module, "vLLMColocateWorkerExtension.update_weights_from_ipc", noting("weights"))


def watch_encoder_cache(module: ModuleType) -> None:
    wrap_function_wrapper(module, "Scheduler.reset_encoder_cache", noting("encoder cache reset"))


if "WEIGHT_SYNCS" in os.environ:
    register_post_import_hook(watch_weights, "verl.workers.rollout.vllm_rollout.utils")
    register_post_import_hook(watch_encoder_cache, "vllm.v1.core.sched.scheduler")
