"""How good semantic IDs are: reconstruction, use of the codes, neighbours, prefixes, and how new items land."""
