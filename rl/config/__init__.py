"""The config sections of this package, one file each."""
