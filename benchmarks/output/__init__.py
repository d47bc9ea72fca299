"""What all benchmarks write: results files, and figures as text."""
