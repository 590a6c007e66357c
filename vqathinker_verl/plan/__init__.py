"""`vqathinker plan`: what a recipe would do, computed without a GPU. docs/plan.md explains the formulas."""
