"""What ToCo, SeCo and CPDGL share."""
