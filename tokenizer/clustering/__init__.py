"""k-means in its variants, balanced assignment and exact nearest neighbours, all within bounded memory."""
