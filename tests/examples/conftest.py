"""The fixtures of tests/helpers/service.py."""

from helpers.service import start_service

__all__ = ["start_service"]
