"""Names the extra of pyproject.toml that brings a dependency which is not installed."""

from importlib.util import find_spec

# The extra that each command needs. It brings all that the command imports, so one installation is enough.
EXTRA_OF_COMMAND = {
    "prepare": "data",
    "synthesize": "data",
    "demo": "demo",
    "plan": "verl",
    "doctor": "verl",
    "train": "verl",
    "watch": "verl",
    "summary": "verl",
    "export": "verl",
    "score": "score",
    "compare": "score",
    "ui": "ui",
    "serve": "serve",
    "describe": "score",
    "evaluate": "data",
    "calibrate": "data",
    "understand": "score",
    "reasoning": "data",
}
# The smallest extra that brings a module, by the module's top-level name.
EXTRA_OF_MODULE = {
    **dict.fromkeys(
        ("PIL", "av", "cachetools", "decord", "jinja2", "matplotlib", "pandas", "pyarrow", "pydantic", "rich", "tqdm"),
        "data",
    ),
    **dict.fromkeys(("openai", "safetensors", "tokenizers", "torch", "torchvision", "transformers"), "score"),
    **dict.fromkeys(("cv2", "skvideo"), "demo"),
    "gradio": "ui",
    **dict.fromkeys(("fastapi", "prometheus_client", "python_multipart", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("accelerate", "datasets", "hydra", "huggingface_hub", "omegaconf", "psutil", "ray", "tensorboard"),
                    "verl"),
    **dict.fromkeys(("tensordict", "transfer_queue", "verl", "wrapt", "zmq"), "verl"),
}  # fmt: skip


def missing_dependency(error: ModuleNotFoundError, command: str) -> str | None:
    """Say what to install for a module that a command could not import.

    Args:
        error: The error of the import.
        command: A subcommand of `vqathinker`.

    Returns:
        One line without the command's name, or None if the module is installed or is no optional dependency: the error
        is then a fault of the code, and its traceback is needed.
    """
    module = (error.name or "").partition(".")[0]
    if module not in (*EXTRA_OF_MODULE, "vllm") or find_spec(module) is not None:
        return None
    if module == "vllm":
        return "needs vllm, which has an installation of its own (https://docs.vllm.ai); or pass --backend transformers"
    extra = EXTRA_OF_COMMAND[command]
    if extra == "data":  # evaluate answers with a model only if it is asked to
        extra = EXTRA_OF_MODULE[module]
    return f"needs {module}; install it with: pip install 'vqathinker-verl[{extra}]'"
