"""Predictions in, benchmark tables and plots out."""
