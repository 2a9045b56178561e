"""ToCo, and SeCo."""
