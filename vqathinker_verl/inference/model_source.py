"""Turn the user's model argument into a folder or name that can be loaded; a training run is exported first."""

import os
import sys
from pathlib import Path

from vqathinker_verl.inference.export import export_checkpoint, find_actor
from vqathinker_verl.inference.model_folder import check_model, is_run_folder


def usable_model(model: str) -> str:
    """Return a model that can be loaded, after cheap checks of its files.

    Args:
        model: Hugging Face folder or name, or the output folder of a training run: its last checkpoint is exported
            into that checkpoint's folder, once.

    Raises:
        ModelError: There is no such model, or it lacks weights or a vision tower.
        ExportError: The run has no complete checkpoint, or it cannot be exported.
    """
    folder = Path(model).expanduser()
    if is_run_folder(folder):
        exported = find_actor(folder).parent / "huggingface_model"
        if not exported.is_dir():
            sys.stderr.write(f"vqathinker: {folder} is a training run; exporting its last checkpoint to {exported}\n")
            export_checkpoint(folder, exported)
        return os.fspath(exported)
    check_model(model)
    return os.fspath(folder) if folder.is_dir() else model
