"""PCSS."""
