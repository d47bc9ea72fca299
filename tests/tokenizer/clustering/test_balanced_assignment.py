"""Balanced assignment: sizes differ by one at most whatever the rows are, and the cost is close to the least there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tokenizer.clustering.balanced_assignment import Costs, Prices, balanced_assignment, even_sizes
from tokenizer.clustering.balanced_kmeans import balanced_kmeans


def rows_and_centroids(seed: int, rows: int, clusters: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, width)).astype(np.float32)
    x[: rows // 2] *= 0.3  # a dense middle, so that plain nearest assignment is far from even
    return x, x[np.resize(generator.permutation(rows), clusters)]


def cost(x: np.ndarray, centroids: np.ndarray, index: np.ndarray) -> float:
    return float(np.square(x.astype(np.float64) - centroids[index]).sum())


def least_cost(x: np.ndarray, centroids: np.ndarray) -> float:
    """Exact for rows that are a multiple of the clusters: every centroid repeated once per place."""
    places = np.repeat(np.arange(len(centroids)), len(x) // len(centroids))
    distance = np.square(x[:, None].astype(np.float64) - centroids[places][None]).sum(-1)
    return float(distance[linear_sum_assignment(distance)].sum())


def algorithm_1(x_ND: np.ndarray, centroids_KD: np.ndarray) -> np.ndarray:
    """One round of Algorithm 1 of OneRec (arXiv 2502.18965): cluster by cluster the nearest rows still free, int64 [N]."""
    free_N = np.arange(len(x_ND))
    index_N = np.empty(len(x_ND), dtype=np.int64)
    for cluster, centroid_D in enumerate(centroids_KD):
        nearest = np.argsort(np.square(x_ND[free_N] - centroid_D).sum(1), kind="stable")
        nearest = nearest[: len(x_ND) // len(centroids_KD)]
        index_N[free_N[nearest]] = cluster
        free_N = np.delete(free_N, nearest)
    return index_N


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 120),
    clusters=st.integers(1, 40),
    distinct=st.integers(1, 120),
    seed=st.integers(0, 99),
    chains=st.booleans(),
    memory=st.sampled_from([1, 64]),
)
def test_sizes_differ_by_one_at_most(
    rows: int, clusters: int, distinct: int, seed: int, chains: bool, memory: int
) -> None:
    x, _ = rows_and_centroids(seed, distinct, clusters)
    x = np.resize(x, (rows, x.shape[1]))  # with fewer distinct rows than rows: equal ones must be parted
    centroids = x[np.random.default_rng(seed).integers(rows, size=clusters)]
    costs = Costs(x.__getitem__, rows, centroids, memory)
    found = balanced_assignment(costs, Prices(np.zeros(costs.clusters)), chains=chains)
    sizes = np.bincount(found.index_N, minlength=clusters)
    assert sizes.sum() == rows
    assert sizes.max() - sizes.min() <= 1
    assert np.isfinite(found.price_K).all()


@pytest.mark.parametrize("seed", range(4))
def test_cost_is_close_to_the_least_and_below_algorithm_1(seed: int) -> None:
    x, centroids = rows_and_centroids(seed, 480, 24)
    exact = least_cost(x, centroids)
    costs = Costs(x.__getitem__, len(x), centroids)
    with_chains = cost(x, centroids, balanced_assignment(costs, Prices(np.zeros(24))).index_N)
    without_chains = balanced_assignment(costs, Prices(np.zeros(24)), price_rounds=40, chains=False)
    direct = cost(x, centroids, without_chains.index_N)
    assert exact <= with_chains + 1e-6
    assert with_chains < 1.001 * exact  # chains end at the optimum, up to rounding
    assert direct < 1.05 * exact
    assert with_chains < cost(x, centroids, algorithm_1(x, centroids))


def test_kept_costs_and_costs_made_by_chunks_give_the_same() -> None:
    x, centroids = rows_and_centroids(5, 40_000, 64)
    generous = balanced_assignment(Costs(x.__getitem__, len(x), centroids, 256), Prices(np.zeros(64)))
    tight = balanced_assignment(Costs(x.__getitem__, len(x), centroids, 16), Prices(np.zeros(64)))
    assert np.ptp(np.bincount(tight.index_N)) <= 1
    assert (generous.index_N == tight.index_N).mean() > 0.999  # products of other shapes round otherwise


def test_masses_of_equal_rows_are_spread_without_a_round_per_cluster() -> None:
    x = np.ones((20_000, 4), dtype=np.float32)
    costs = Costs(x.__getitem__, len(x), np.ones((500, 4), dtype=np.float32))
    found = balanced_assignment(costs, Prices(np.zeros(500)), chains=False)
    assert (np.bincount(found.index_N) == 40).all()


def test_the_clusters_wanted_most_get_the_extra_row() -> None:
    sizes = even_sizes(np.array([9, 0, 2, 0]), np.array([0.0, 3.0, 0.0, 1.0]))
    assert sizes.tolist() == [3, 3, 3, 2]


def test_balanced_kmeans_improves_by_rounds_and_by_the_polish() -> None:
    x, _ = rows_and_centroids(7, 1500, 10)
    once, often = (balanced_kmeans(x, 50, iterations=count, polish=False) for count in (1, 15))
    polished = balanced_kmeans(x, 50, iterations=15)
    assert polished.inertia < often.inertia < once.inertia
    for result in (once, often, polished):
        assert np.bincount(result.assignment_N).tolist() == [30] * 50
    assert polished.inertia == pytest.approx(cost(x, polished.centroids_KD, polished.assignment_N), rel=1e-5)
