"""Groups of generations: prompts, the policy, sampling, and log-probabilities."""
