"""The rewards: pure NumPy, one equation per file."""
