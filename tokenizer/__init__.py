"""Item content to semantic IDs: vectors in, one unique short code sequence per item out.

This package takes tables and arrays. It knows nothing of users, of the generator or of `onerec`.

Shapes are written as suffixes: B batch, T time, L code levels, K clusters or beams, V codebook size, N items, D width.
"""
