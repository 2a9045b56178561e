"""CLIP-ES."""
