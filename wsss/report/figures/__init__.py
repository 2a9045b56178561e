"""Charts and panels."""
