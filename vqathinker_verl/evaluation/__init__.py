"""Predictions against labels: metrics of every benchmark, comparison of two models, tables and a report."""
