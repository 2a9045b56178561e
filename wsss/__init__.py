"""Weakly supervised semantic segmentation, one pipeline for many published methods."""
