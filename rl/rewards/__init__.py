"""What a generation is worth: one reward per file, combined by weights."""
