"""How things are written and read."""
