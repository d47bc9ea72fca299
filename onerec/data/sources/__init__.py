"""One file per public dataset, and `tabular` for the user's own tables."""
