"""The rewards: pure NumPy, one equation a file."""
