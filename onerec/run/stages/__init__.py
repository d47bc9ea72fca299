"""The stages of this package, one file each, in the order of a run: sequences, semantic IDs, generator, selection, baselines."""
