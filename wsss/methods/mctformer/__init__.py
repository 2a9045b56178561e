"""MCTformer."""
