"""Scoring videos and exporting checkpoints."""
