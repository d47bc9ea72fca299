"""What the studies of semantic IDs share: item vectors, a cell of the downstream table, and the claims of papers."""
