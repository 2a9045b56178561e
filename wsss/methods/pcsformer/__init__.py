"""PCSformer, and TransCAM."""
