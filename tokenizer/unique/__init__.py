"""One item, one ID: collisions are resolved, and free IDs are found for items that join later."""
