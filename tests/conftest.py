"""Settings for all tests: helpers importable, no network, property tests that draw the same examples every time."""

import os
import sys
from pathlib import Path

from hypothesis import settings

# Before anything imports a library of Hugging Face, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

# Machines differ in speed; the tests that are about time measure it themselves.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("repeatable")
