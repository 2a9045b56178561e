"""Weakly supervised semantic segmentation, one pipeline for many published methods."""

__version__ = "0.2.0"
