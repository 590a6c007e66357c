"""The fixtures that the tests of the libraries use, too."""

from helpers.asking import told, videos
from helpers.scoring import clips
from helpers.service import start_service

__all__ = ["clips", "start_service", "told", "videos"]
