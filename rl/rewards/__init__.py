"""Rewards of generations, one per file."""
