"""The reward model (P-Score): its stages, its figures, and selection from the beam by its score."""
