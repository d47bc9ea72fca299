"""Lists from the whole catalogue: one recommender per file, all behind `Recommender`."""
