"""Pages and terminal tables that show a run: its results and its semantic IDs."""
