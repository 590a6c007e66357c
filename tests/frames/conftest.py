"""The `clip` fixture, whose helpers the tests also import by name."""

from helpers.clips import clip

__all__ = ["clip"]
