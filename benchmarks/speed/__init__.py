"""What speed benchmarks share: clocks, random models, rivals, a simulated log."""
