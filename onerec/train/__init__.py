"""Training through `accelerate`: one loop for the generator and for every trained baseline."""
