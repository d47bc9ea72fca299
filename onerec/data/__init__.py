"""From a raw log to a checked dataset folder, and from there to split sequences."""
