"""RSFT: training goes on with the sessions that were watched most."""
