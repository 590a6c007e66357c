"""The Hydra configuration: `--config-path=pkg://vqathinker_verl.config --config-name=vqathinker`."""

from pathlib import Path

CONFIG_DIR = Path(__file__).resolve().parent
