"""Quality of semantic IDs: reconstruction, use of the codes, neighbours, prefixes, and the prefixes of new items."""
