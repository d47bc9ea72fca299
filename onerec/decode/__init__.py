"""Constrained decoding: only codes that lead to a real item are ever followed."""
