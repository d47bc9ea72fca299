"""Scores for given candidates: one scorer per file, all behind `Scorer`."""
