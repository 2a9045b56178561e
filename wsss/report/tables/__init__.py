"""Tables of evaluations."""
