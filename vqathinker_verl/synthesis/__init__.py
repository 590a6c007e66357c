"""Chains of known order: one source video at several strengths of one distortion, made without any label."""
