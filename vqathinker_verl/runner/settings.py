"""The settings of `vqathinker train`, and the Hydra overrides that pass them to verl.

Every setting is an option of the command or else an environment variable, which is how the recipes set it. Paths are
relative to the working directory of the user.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vqathinker_verl.checks import did_you_mean
from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import InputError, hydra_text
from vqathinker_verl.runner.machine import has_flash_attention_2, visible_gpus

# option -> environment variable
VARIABLES = {
    "model": "MODEL_PATH",
    "train": "TRAIN_FILES",
    "val": "VAL_FILES",
    "output_dir": "OUTPUT_DIR",
    "steps": "TOTAL_STEPS",
    "gpus": "NGPUS_PER_NODE",
    "nodes": "NNODES",
    "experiment": "EXPERIMENT",
    "seed": "SEED",
    "device": "DEVICE",
}
DEVICES = ("gpu", "cpu")
OUTPUT_DIR = "outputs/vqathinker"
DEMO_DIR = "outputs/demo"


@dataclass(frozen=True)
class Settings:
    """A run's settings, checked one by one; None leaves a choice to the experiment.

    Attributes:
        experiment: Name of a YAML file in vqathinker_verl/config/experiment.
        device: "gpu" or "cpu".
        output_dir: Absolute path.
        seed: Seed of the data's order, the perturbations and the demo.
        model: Absolute path of a folder, or a name on the hub.
        train: Absolute paths of parquet files.
        val: Absolute paths of parquet files.
        steps: Training steps in all.
        videos_per_step: Videos of a batch, and of its mini batch.
        responses_per_video: Responses that are sampled for each video.
        gpus: GPUs (without a GPU: worker processes) per node.
        nodes: Machines.
        attention: The trainer's attention implementation; None: flash-attn where it is installed, else sdpa.
        demo_dir: Where the demo is made if this run is the demo, else None.
    """

    experiment: str
    device: str
    output_dir: Path
    seed: int = 0
    model: str | None = None
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    steps: int | None = None
    videos_per_step: int | None = None
    responses_per_video: int | None = None
    gpus: int | None = None
    nodes: int | None = None
    attention: str | None = None
    demo_dir: Path | None = None


def read_settings(args: argparse.Namespace, environment: Mapping[str, str], *, plan: bool) -> Settings:
    """Read the command's options and, where one is not given, its environment variable.

    Args:
        args: The options of `vqathinker train`.
        environment: Usually `os.environ`.
        plan: The run is only planned: nothing has to be complete, and this machine's GPUs do not matter.

    Raises:
        InputError: a setting is missing or cannot be used.
    """

    def given(name: str) -> Any:
        option = getattr(args, name)
        return option if option is not None else environment.get(VARIABLES[name]) or None

    def count(name: str, lowest: int = 1) -> int | None:
        value = given(name) if name in VARIABLES else getattr(args, name)
        return None if value is None else _integer(value, name, lowest)

    counts = {name: count(name) for name in ("steps", "gpus", "nodes", "videos_per_step", "responses_per_video")}
    seed = count("seed", lowest=0) or 0
    model, train, val = given("model"), _files(given("train")), _files(given("val"))
    experiment = _experiment(given("experiment") or ("full" if model or train or val else "demo"))
    demo = experiment == "demo" and not (model or train or val)
    for name, value in (("model", model), ("train", train), ("val", val)):
        if not (value or demo or (plan and name != "model")):
            raise InputError(
                f"--{name} ({VARIABLES[name]}) is not set; a run on your own data needs --model, --train and --val "
                "(the demo: none of them)"
            )
    if experiment == "separate_async" and counts["videos_per_step"]:
        raise InputError(
            "--videos-per-step: separate_async takes several mini batches per step; set data.train_batch_size and "
            "actor_rollout_ref.actor.ppo_mini_batch_size instead"
        )
    device = _device(given("device"), real_run=not demo, plan=plan)
    if counts["gpus"] is None and not plan:
        counts["gpus"] = _gpus(device, experiment, demo)
    return Settings(
        experiment=experiment,
        device=device,
        output_dir=Path(given("output_dir") or OUTPUT_DIR).expanduser().absolute(),
        seed=seed,
        model=_model(model),
        train=train,
        val=val,
        attention=environment.get("ATTENTION") or None,
        demo_dir=Path(environment.get("DEMO_DIR") or DEMO_DIR).expanduser().absolute() if demo else None,
        **counts,
    )


def overrides_of(settings: Settings) -> list[str]:
    """The Hydra overrides of these settings; those that the user adds come after them."""
    fields: dict[str, object] = {
        "platform": settings.device,
        "experiment": settings.experiment,
        "data.seed": settings.seed,
        "data.train_files": _listed(settings.train),
        "data.val_files": _listed(settings.val),
        "actor_rollout_ref.model.path": settings.model and hydra_text(settings.model),
        "trainer.total_training_steps": settings.steps,
        "data.train_batch_size": settings.videos_per_step,
        "actor_rollout_ref.actor.ppo_mini_batch_size": settings.videos_per_step,
        "actor_rollout_ref.rollout.n": settings.responses_per_video,
        "trainer.nnodes": settings.nodes,
        "trainer.n_gpus_per_node": settings.gpus,
    }
    overrides = [f"{field}={value}" for field, value in fields.items() if value is not None]
    if settings.device == "gpu":
        attention = settings.attention or ("flash_attention_2" if has_flash_attention_2() else "sdpa")
        # Packed sequences need an attention that keeps neighbours in a row apart. verl has it for flash-attn 2 alone.
        packed = str(attention == "flash_attention_2").lower()
        overrides.append(f"actor_rollout_ref.model.override_config.attn_implementation={attention}")
        overrides.append(f"actor_rollout_ref.model.use_remove_padding={packed}")
    elif os.environ.get("RAY_ADDRESS"):
        # The nodes of a running cluster have stated their resources; Ray refuses to get them again.
        overrides += ["ray_kwargs.ray_init.num_cpus=null", "ray_kwargs.ray_init.num_gpus=null"]
    return overrides


def device_environment(device: str) -> dict[str, str]:
    """Environment variables that verl, Ray and vLLM need on this device; those that are set already stay."""
    variables = {"TOKENIZERS_PARALLELISM": "false", "HYDRA_FULL_ERROR": "0", "PYTHONUNBUFFERED": "1"}
    if device == "cpu":
        variables |= {
            "VERL_PLATFORM": "cpu",
            "VERL_ENGINE_DEVICE": "cuda",  # verl registers its FSDP engine for "cuda"; the rest is vLLM's CPU backend
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "TORCHDYNAMO_DISABLE": "1",
        }
        changeable = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "TQ_NUM_THREADS": "1"}
        variables |= {name: os.environ.get(name, value) for name, value in changeable.items()}
    return variables


def _integer(value: str, name: str, lowest: int) -> int:
    if value.strip().isdecimal() and int(value) >= lowest:
        return int(value)
    variable = f" ({VARIABLES[name]})" if name in VARIABLES else ""
    kind = "a positive integer" if lowest == 1 else "an integer of 0 or more"
    raise InputError(f"--{name.replace('_', '-')}{variable}: expected {kind}, got {value!r}")


def _experiment(name: str) -> str:
    known = sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml"))
    if name not in known:
        raise InputError(
            f"--experiment (EXPERIMENT): no experiment {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"
        )
    return name


def _device(given: str | None, *, real_run: bool, plan: bool) -> str:
    if given is not None and given not in DEVICES:
        raise InputError(f"--device (DEVICE): expected gpu or cpu, got {given!r}")
    if given == "cpu" or plan:
        return given or "gpu"
    if visible_gpus() or (given == "gpu" and os.environ.get("RAY_ADDRESS")):
        return "gpu"
    if given == "gpu" or real_run:
        raise InputError(
            "no NVIDIA GPU answers on this machine (nvidia-smi); pass --device cpu (DEVICE=cpu) to train a tiny model "
            "without one, or --device gpu and RAY_ADDRESS to use a cluster's"
        )
    return "cpu"


def _gpus(device: str, experiment: str, demo: bool) -> int | None:
    """GPUs per node where none are asked for: one for the demo and without a GPU, else the experiment's, else all."""
    if device == "cpu" or demo:
        return 1
    fields = OmegaConf.load(CONFIG_DIR / "experiment" / f"{experiment}.yaml")
    if OmegaConf.select(fields, "trainer.n_gpus_per_node") is not None:
        return None
    return visible_gpus() or None  # None: this node has none, and the cluster's have as many as the experiment says


def _files(given: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return absolute paths of files; a variable may have them in Hydra's list syntax: [a.parquet,b.parquet]."""
    if isinstance(given, str):
        bare = given[1:-1] if given.startswith("[") and given.endswith("]") else None
        given = [given] if bare is None else [name.strip(" '\"") for name in bare.split(",")]
    return tuple(str(Path(name).expanduser().absolute()) for name in given or ())


def _listed(paths: Sequence[str]) -> str | None:
    if not paths:
        return None
    texts = [hydra_text(path) for path in paths]
    return texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"


def _model(text: str | None) -> str | None:
    """The folder's absolute path; a name on the hub as it is."""
    if text is None:
        return None
    folder = Path(text).expanduser()
    return str(folder.absolute()) if folder.exists() else text
