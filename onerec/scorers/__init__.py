"""Scorers of candidates, one per file, behind the protocol `Scorer`."""
