"""Item content to semantic IDs: one short, unique code sequence per item.

This package works on tables and arrays. It does not depend on users, on the generator or on `onerec`.

Shapes are written as suffixes: B batch, T time, L code levels, K clusters or beams, V codebook size, N items, D width.
"""
