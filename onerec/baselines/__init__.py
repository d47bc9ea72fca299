"""What a user would pick instead of a generative model, built with the same loader and measured on the same cases."""
