"""The fixtures that the tests of the libraries use, too."""

from helpers.asking import told, videos
from helpers.scoring import clips

__all__ = ["clips", "told", "videos"]
