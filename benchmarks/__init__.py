"""Measurements. Every figure in the README is printed by a command here and stored under `benchmarks/results/`."""
