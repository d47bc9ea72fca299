"""Prefixes shared by new items and similar old ones, against counting by hand."""

import numpy as np
import pytest

from tokenizer.quality.landing import landing_figures, nearest_by_cosine


def test_landing_figures_against_counting_by_hand() -> None:
    rng = np.random.default_rng(0)
    new_codes, old_codes = rng.integers(0, 3, size=(30, 3)), rng.integers(0, 3, size=(50, 3))
    new, old = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)
    figures = landing_figures(new_codes, new, old_codes, old, k=4)
    cosine = (new / np.linalg.norm(new, axis=1)[:, None]) @ (old / np.linalg.norm(old, axis=1)[:, None]).T
    nearest = np.argsort(-cosine, axis=1)[:, :4]
    assert (np.sort(nearest_by_cosine(new, old, 4), axis=1) == np.sort(nearest, axis=1)).all()
    for depth in (1, 2):
        same = [
            (old_codes[near, :depth] == code[:depth]).all(axis=1).any()
            for near, code in zip(nearest, new_codes, strict=True)
        ]
        assert figures["same_prefix"][depth - 1] == pytest.approx(np.mean(same))
        share = [(old_codes[:, :depth] == code[:depth]).all(axis=1).mean() for code in new_codes]
        assert figures["chance"][depth - 1] == pytest.approx(np.mean([1 - (1 - p) ** 4 for p in share]))
