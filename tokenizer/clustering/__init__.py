"""Variants of k-means, balanced assignment and exact nearest centroids, all within bounded memory."""
