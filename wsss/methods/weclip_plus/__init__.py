"""WeCLIP+."""
