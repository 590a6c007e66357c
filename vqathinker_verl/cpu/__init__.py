"""verl on machines without a GPU: its platform, and what verl and vLLM need patched there."""
