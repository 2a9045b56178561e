"""The gallery: one page without a network that shows images beside the results of every stage."""
