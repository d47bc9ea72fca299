"""What the studies of generators measure: ablations, generators trained on a counted number of targets, and a power law."""
