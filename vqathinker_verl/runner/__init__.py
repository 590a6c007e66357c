"""The code around verl's process: `vqathinker train`, its settings, and the screen of a run."""
