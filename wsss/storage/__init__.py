"""Files: how they are written and read."""
