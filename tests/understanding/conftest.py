"""The fixtures of tests/helpers/asking.py."""

from helpers.asking import told, videos

__all__ = ["told", "videos"]
