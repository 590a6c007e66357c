"""What a recipe would do, told without a GPU: `vqathinker plan`. The formulas are explained in docs/plan.md."""
