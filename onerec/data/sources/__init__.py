"""Importers: one file per public dataset, and `tabular` for a user's own tables."""
