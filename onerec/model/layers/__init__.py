"""Building blocks of encoder and decoders: attention, feed-forward networks, experts, embeddings of features."""
