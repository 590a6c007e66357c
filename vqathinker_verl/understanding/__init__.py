"""What a model understands of quality: questions answered, videos described, reasoning held against the truth."""
