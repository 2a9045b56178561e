"""Backbones and heads; no training logic."""
