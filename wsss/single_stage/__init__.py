"""What methods share that learn masks from their own CAMs while they train (ToCo, SeCo, CPDGL)."""
