"""Predictions against labels: figures of every benchmark, comparison of two models, tables and a report."""
