"""Datasets: one reader per source."""
