"""CPDGL."""
