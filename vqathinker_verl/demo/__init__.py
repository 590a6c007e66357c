"""A tiny real Qwen2.5-VL and real clips, for the run without a GPU or data."""
