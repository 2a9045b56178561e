"""ExCEL."""
