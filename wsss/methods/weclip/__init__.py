"""WeCLIP."""
