"""What a recommended list is worth: figures per case, their uncertainty, and their breakdowns."""
