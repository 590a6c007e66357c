"""The commands of `vqathinker`, one module each."""
