"""Hide the libraries' own warnings in commands that print results on the terminal."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Show errors of transformers, vLLM and torch only; their levels can still be set in the environment."""
    levels = {"TRANSFORMERS_VERBOSITY": "error", "VLLM_LOGGING_LEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    for name, level in levels.items():
        os.environ.setdefault(name, level)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    for name in ("torch", "torch.utils.cpp_extension", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
