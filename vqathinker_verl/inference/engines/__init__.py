"""Engines: a model that answers questions about videos, through transformers, vLLM or a server.

    engine = open_engine("outputs/model")
    for answer in engine.generate([Request(Path("a.mp4"), QUALITY_PROMPT)]):
        print(answer.responses or answer.error)

Nothing heavy is imported before `open_engine` is called.
"""

import importlib.util
from dataclasses import replace
from typing import get_args

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines.contract import (
    EVALUATION_FRAMES,
    Answer,
    AnswerForm,
    Backend,
    Engine,
    EngineError,
    ModelDefaults,
    Request,
    Sampling,
)
from vqathinker_verl.inference.engines.defaults import read_defaults

__all__ = [
    "EVALUATION_FRAMES",
    "Answer",
    "AnswerForm",
    "Backend",
    "Engine",
    "EngineError",
    "ModelDefaults",
    "Request",
    "Sampling",
    "open_engine",
    "read_defaults",
]


def open_engine(
    model: str,
    *,
    backend: Backend = "auto",
    server: str | None = None,
    frames: FrameSpec | None = None,
    sampling: Sampling | None = None,
    answer_prefix: str = "",
    dtype: str = "auto",
    expectation: bool = False,
    system: str | None = None,
    answer: AnswerForm | None = None,
) -> Engine:
    """Load a model, or reach a server that has.

    Args:
        model: Hugging Face folder or name, or the output folder of a training run, which is exported; for a server
            also the name under which it is served.
        backend: "auto" is "server" where one is given, else "vllm" where it is installed, else "transformers".
        server: Address of an OpenAI-compatible server, for the backend "server".
        frames: Which frames of a video the model is shown; their factor is the model's own. None: those of an
            exported model's validation, else EVALUATION_FRAMES.
        sampling: How tokens are drawn. None: as at an exported model's validation, else the likeliest tokens.
        answer_prefix: What every response begins with: "<answer>" leaves the thinking out.
        dtype: A torch dtype's name; "auto" is bfloat16 on a GPU and float32 without one.
        expectation: Whether distributions of the score will be asked for: vLLM then keeps what prompts share.
        system: What the system says before the question. None: as an exported model's file says.
        answer: How a response gives its score. None: as an exported model's file says.

    Raises:
        ValueError: An option is unknown, the server's address is missing or not asked for, or the model's files
            show that it cannot be used.
        EngineError: The model cannot be loaded.
    """
    if server is None:
        from vqathinker_verl.inference.model_source import usable_model

        model = usable_model(model)
    defaults = read_defaults(model)
    if sampling is not None:  # the number of samples belongs to the model's own sampling
        defaults = replace(defaults, sampling=sampling, samples=1)
    if frames is not None:
        defaults = replace(defaults, frames=frames)
    if system is not None:
        defaults = replace(defaults, system=system)
    if answer is not None:
        defaults = replace(defaults, answer=answer)
    engine = _opened(model, backend, server, defaults, answer_prefix, dtype, expectation)
    engine.defaults = defaults
    return engine


def _opened(
    model: str,
    backend: Backend,
    server: str | None,
    defaults: ModelDefaults,
    answer_prefix: str,
    dtype: str,
    expectation: bool,
) -> Engine:
    frames, sampling, system = defaults.frames, defaults.sampling, defaults.system
    if backend not in get_args(Backend):
        raise ValueError(f"backend: expected one of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend == "auto":
        if server is not None:
            backend = "server"
        else:
            backend = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    if (backend == "server") != (server is not None):
        raise ValueError(f"the backend {backend!r} and the server {server!r} do not go together")
    if backend == "transformers":
        from vqathinker_verl.inference.engines.transformers_engine import TransformersEngine

        return TransformersEngine(model, frames, sampling, answer_prefix=answer_prefix, dtype=dtype, system=system)
    if server is not None:
        from vqathinker_verl.inference.engines.server_engine import ServerEngine

        return ServerEngine(server, model, frames, sampling, answer_prefix=answer_prefix, system=system)
    from vqathinker_verl.inference.engines.vllm_engine import VllmEngine

    return VllmEngine(
        model, frames, sampling, answer_prefix=answer_prefix, dtype=dtype, prefix_caching=expectation, system=system
    )
