"""Aligning a trained generator with rewards: the stage, its loop, what it learns from, and what it changed."""
