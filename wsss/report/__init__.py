"""What a reader sees: tables, figures, galleries."""
