"""Building blocks: attention, feed-forward networks, experts, embeddings of features."""
