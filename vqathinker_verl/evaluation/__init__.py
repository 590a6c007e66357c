"""Compare predictions with labels: metrics of every benchmark, comparison of two models, tables and a report."""
