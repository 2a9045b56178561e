"""SemFormer."""
