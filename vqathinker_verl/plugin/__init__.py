"""The only rooms that import verl, torch or Ray."""
