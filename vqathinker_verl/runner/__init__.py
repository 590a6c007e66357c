"""What runs around verl's process: the `vqathinker train` command and its settings."""
