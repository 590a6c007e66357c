"""The fixtures of tests/helpers/scoring.py."""

from helpers.scoring import clips

__all__ = ["clips"]
