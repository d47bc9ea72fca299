"""Runs: a config, a folder, and stages that are made once and found again."""
