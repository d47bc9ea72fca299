"""Training with `accelerate`: one loop for the generator and every trained baseline."""
