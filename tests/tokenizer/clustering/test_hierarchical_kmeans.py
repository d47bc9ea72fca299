"""Hierarchical k-means: every row in one leaf, leaves of their share, representatives that are members."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.clustering import hierarchical_kmeans as module
from tokenizer.clustering.hierarchical_kmeans import hierarchical_kmeans


def blobs(rows: int, clusters: int, seed: int = 0, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    label_N = np.arange(rows) % clusters
    x_ND = 20 * draw.normal(size=(clusters, width))[label_N] + draw.normal(size=(rows, width))
    return x_ND.astype(np.float32), label_N


@given(rows=st.integers(1, 50), clusters=st.integers(1, 60), small=st.sampled_from([5, 20]), seed=st.integers(0, 3))
def test_every_row_is_in_one_leaf_and_every_leaf_has_a_member_of_its_own(
    rows: int, clusters: int, small: int, seed: int
) -> None:
    """Also where rows repeat, so that there are fewer different ones than leaves asked for."""
    x_ND = np.random.default_rng(seed).integers(0, 4, size=(rows, 2)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SMALL", small)
        made = hierarchical_kmeans(x_ND, clusters, seed=seed)
    leaves = len(made.representatives_K)
    assert made.cluster_N.shape == (rows,)
    assert np.array_equal(np.unique(made.cluster_N), np.arange(leaves))
    assert leaves <= min(clusters, rows)
    assert np.array_equal(made.cluster_N[made.representatives_K], np.arange(leaves))


@pytest.mark.parametrize(("rows", "clusters"), [(5000, 40), (5000, 300), (9000, 7), (300, 299), (300, 300)])
def test_different_rows_fill_every_leaf(rows: int, clusters: int) -> None:
    made = hierarchical_kmeans(np.random.default_rng(1).normal(size=(rows, 6)).astype(np.float32), clusters)
    assert len(made.representatives_K) == clusters


def test_a_representative_is_the_row_nearest_to_the_mean_of_its_leaf() -> None:
    x_ND, _ = blobs(700, 30)
    made = hierarchical_kmeans(x_ND, 25)
    for leaf, representative in enumerate(made.representatives_K):
        members = np.flatnonzero(made.cluster_N == leaf)
        distances = np.square(x_ND[members] - x_ND[members].mean(axis=0)).sum(axis=1)
        assert distances[members == representative] == pytest.approx(distances.min(), rel=1e-4)


def test_leaves_keep_clusters_apart() -> None:
    """Blobs far from each other, many more leaves than blobs: no leaf may mix two of them."""
    x_ND, label_N = blobs(6000, 10)
    made = hierarchical_kmeans(x_ND, 200)
    assert np.array_equal(label_N[made.representatives_K][made.cluster_N], label_N)


def test_the_seed_decides() -> None:
    x_ND = np.random.default_rng(2).normal(size=(3000, 8)).astype(np.float32)
    one, same, other = (hierarchical_kmeans(x_ND, 50, seed=seed).cluster_N for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_equal_rows_are_one_leaf() -> None:
    made = hierarchical_kmeans(np.ones((5000, 4), np.float32), 10)
    assert len(made.representatives_K) == 1
    assert not made.cluster_N.any()
