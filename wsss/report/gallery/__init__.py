"""A gallery of images and what each stage of some runs makes of them: one page, no network."""
