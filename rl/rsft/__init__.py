"""RSFT: training goes on with the sessions that users watched most."""
