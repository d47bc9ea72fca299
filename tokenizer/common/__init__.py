"""What all rooms share: checks of arrays, operations on vectors, and folders that are replaced as a whole."""
