"""Where this process runs."""
