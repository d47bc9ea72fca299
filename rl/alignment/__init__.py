"""Alignment of a trained generator with rewards: the stage, its loop, its data, and its evaluation."""
