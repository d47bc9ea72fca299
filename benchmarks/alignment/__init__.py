"""The alignment benchmark: `python -m benchmarks.alignment` and `python -m benchmarks.alignment.charts`."""
