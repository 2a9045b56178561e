"""The report: tables, figures and the gallery."""
