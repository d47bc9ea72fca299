"""One item, one ID: resolve collisions, and find free IDs for items that join later."""
