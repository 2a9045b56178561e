"""CAM, and training on true masks."""
