"""Whether a model can be used, from its folder or its name on the Hugging Face hub, before anything loads it.

Only `config.json` and file names are read: loading a 7B model takes minutes, and its errors are hard to read.
"""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
HUB_SECONDS = 3.0  # to wait for the hub's answer
WEIGHTS = ("*.safetensors", "*.bin")


class ModelError(ValueError):
    """A model that cannot be used; the message says what was expected and what to do."""


def check_model(model: str) -> None:
    """Check a model before it is loaded: a complete folder with a vision tower, or a name that the hub knows.

    Args:
        model: Hugging Face folder, or name on the hub. A name is looked up in the local cache and, unless
            HF_HUB_OFFLINE is set, on the hub.

    Raises:
        ModelError: There is no such model, its weights are missing, or it has no vision tower.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        _check_folder(folder)
    elif folder.exists():
        raise ModelError(f"model {model}: this is a file; expected a folder with config.json and weights")
    elif not HUB_NAME.fullmatch(model):
        raise ModelError(f"model {model}: no such folder; expected a Hugging Face checkpoint's folder")
    else:
        _check_hub_name(model)


def is_run_folder(folder: Path) -> bool:
    """Whether this is the output folder of a training run, or one of its checkpoints, rather than a model."""
    return not (folder / "config.json").is_file() and (
        any(folder.glob("checkpoints/global_step_*"))
        or any(folder.glob("global_step_*"))
        or (folder / "actor").is_dir()
        or any(folder.glob("model_world_size_*_rank_*.pt"))
    )


def _check_folder(folder: Path) -> None:
    if is_run_folder(folder):
        raise ModelError(
            f"model {folder}: this is a training run, not a model; export it first: vqathinker export {folder} "
            "--output-dir MODEL"
        )
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelError(f"model {folder}: no config.json in this folder; expected a Hugging Face checkpoint")
    _check_config(folder, _read(folder, config_path))
    if not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        raise ModelError(
            f"model {folder}: no weights in this folder; expected *.safetensors or *.bin next to config.json"
        )
    for index in folder.glob("*.safetensors.index.json"):
        missing = sorted({name for name in _read(folder, index).get("weight_map", {}).values()} - _names(folder))
        if missing:
            raise ModelError(
                f"model {folder}: {len(missing)} weight files of {index.name} are missing, first {missing[0]}; "
                "copy or download the model again"
            )


def _check_config(model: str | Path, config: Any) -> None:
    if not isinstance(config.get("vision_config"), dict):
        kind = config.get("model_type", "unknown")
        raise ModelError(
            f"model {model}: no vision tower (no vision_config in config.json; model_type {kind}); expected a model "
            "that takes videos, such as Qwen2.5-VL"
        )


def _check_hub_name(name: str) -> None:
    """Check the config.json of the local cache, or else the hub's. Its own client retries for half a minute."""
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str) and any(any(Path(cached).parent.glob(pattern)) for pattern in WEIGHTS):
        _check_config(name, _read(name, Path(cached)))
        return
    absent = f"model {name}: no such folder, not in the local Hugging Face cache"
    advice = f"pass the folder of a Hugging Face checkpoint, or download it with a network: hf download {name}"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"{absent}, and HF_HUB_OFFLINE is set; {advice}")
    request = urllib.request.Request(hf_hub_url(name, "config.json"), headers=build_hf_headers())
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS) as answer:
            _check_config(name, json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code == 403:
            raise ModelError(
                f"model {name}: the hub asks for permission; request it on the model's page, then run: hf auth login"
            ) from error
        raise ModelError(
            f"{absent}, and the hub answers {error.code} {error.reason}; is the name right, and are you logged in?"
        ) from error
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{absent}, and the hub cannot be reached; {advice}") from error


def _read(model: str | Path, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model}: {path.name} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {model}: {path.name}: expected a JSON object, got {type(content).__name__}")
    return content


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
