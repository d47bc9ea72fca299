"""Shared by all rooms: checks of arrays, operations on vectors, the base of settings, atomic replacement of folders."""
