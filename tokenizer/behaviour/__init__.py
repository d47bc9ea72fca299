"""What the log says about items: co-occurrence vectors, pairs of items, and content aligned with those pairs."""
