"""Evaluation records as tables."""
