"""The training loop, its batches, augmentations and optimisers."""
