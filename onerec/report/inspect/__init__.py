"""The page that shows semantic IDs: the tree of prefixes, neighbours, and items that were confused."""
