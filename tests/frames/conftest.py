"""The `clip` fixture, from conftest_frames.py, whose helpers the tests also import by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest_frames import clip

__all__ = ["clip"]
