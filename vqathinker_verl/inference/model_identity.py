"""The identity of a model, independent of its path."""

import hashlib
import os
from pathlib import Path
from typing import Any


def model_identity(model: str) -> dict[str, Any]:
    """Return the identity of a model: a digest of each weight file of its folder, and its name for messages.

    A digest covers the size and 256 blocks spread over the file, which takes no time; training changes all of it.
    """
    folder = Path(model)
    if not folder.is_dir():
        return {"name": model}
    weights = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
    return {"name": os.fspath(folder.resolve()), "weights": {file.name: _digest(file) for file in weights}}


def same_model(before: Any, now: Any) -> bool:
    """Whether two identities are of the same model, wherever it lies."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return False
    return bool(before == now or (before.get("weights") and before["weights"] == now.get("weights")))


def _digest(path: Path, blocks: int = 256, block_bytes: int = 65536) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(blocks):
            file.seek(max(0, size - block_bytes) * number // max(1, blocks - 1))
            digest.update(file.read(block_bytes))
            if size <= block_bytes:
                break
    return digest.hexdigest()[:32]
