"""k-means: it finds clusters, leaves none empty while points differ, and never needs more memory than it says."""

import numpy as np
import pytest

from tokenizer.clustering import nearest
from tokenizer.clustering.kmeans import Initialisation, lloyd
from tokenizer.clustering.nearest import nearest_rows, squared_distances

STARTS: tuple[Initialisation, ...] = ("random", "spread", "k-means++")


def normal(seed: int, rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def test_finds_well_separated_clusters() -> None:
    label = np.arange(8).repeat(40)
    x = 20 * normal(0, 8, 6)[label] + 0.1 * normal(1, len(label), 6)
    result = lloyd(x, 8, initialisation="k-means++", restarts=3)
    assert len(set(zip(result.assignment_N, label, strict=True))) == 8  # a bijection between found and true clusters
    error = np.square(x - result.centroids_KD[result.assignment_N]).sum()
    assert result.inertia == pytest.approx(float(error), rel=1e-4)


@pytest.mark.parametrize("initialisation", STARTS)
def test_no_cluster_stays_empty_while_points_differ(initialisation: Initialisation) -> None:
    heavy = np.zeros((900, 4), np.float32)  # most points are equal: starts drawn among them collapse onto one centroid
    result = lloyd(np.concatenate([heavy, normal(1, 100, 4)]), 60, seed=2, initialisation=initialisation)
    assert len(np.unique(result.assignment_N)) == 60


def test_as_many_clusters_as_distinct_points_or_more_leave_no_error() -> None:
    x = normal(3, 12, 3)
    for clusters in (12, 16):
        result = lloyd(np.tile(x, (5, 1)), clusters)
        assert result.centroids_KD.shape == (clusters, 3)
        assert result.inertia == pytest.approx(0.0, abs=1e-9)
        assert len(np.unique(result.assignment_N)) == 12
    assert lloyd(x[:5], 16).inertia == pytest.approx(0.0, abs=1e-9)
    assert lloyd(x[:1], 4, initialisation="k-means++").inertia == 0.0


def test_same_seed_same_result_and_more_iterations_are_not_worse() -> None:
    x = normal(5, 500, 8)
    first, again = lloyd(x, 20, seed=7), lloyd(x, 20, seed=7)
    assert np.array_equal(first.centroids_KD, again.centroids_KD)
    assert not np.array_equal(first.centroids_KD, lloyd(x, 20, seed=8).centroids_KD)
    assert first.inertia <= lloyd(x, 20, seed=7, iterations=1).inertia
    assert lloyd(x, 20, seed=7, restarts=4).inertia <= first.inertia


def test_chunks_do_not_change_the_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids = normal(6, 301, 5), normal(7, 17, 5)
    whole = nearest_rows(x, centroids)
    monkeypatch.setattr(nearest, "CHUNK_ELEMENTS", 17 * 10)
    chunked = nearest_rows(x, centroids)
    exact = np.square(x[:, None].astype(np.float64) - centroids[None]).sum(-1)
    assert np.array_equal(whole, chunked)
    assert np.array_equal(chunked, exact.argmin(1))
    np.testing.assert_allclose(squared_distances(x, centroids, chunked), exact.min(1), rtol=1e-5, atol=1e-6)


def test_looking_only_at_moved_centroids_finds_what_looking_at_all_finds() -> None:
    generator = np.random.default_rng(7)
    x = generator.standard_normal((600, 10)).astype(np.float32)
    centroids = x[:40].copy()
    search = nearest.NearestSearch(x, centroids)
    for moves in (3, 20, 1, 39, 40, 12, 5, 2):
        moved = np.sort(generator.permutation(40)[:moves])
        centroids = centroids.copy()
        centroids[moved] += generator.standard_normal((moves, 10)).astype(np.float32) * 0.7
        search.update(centroids, moved)
        distance = np.square(x[:, None].astype(np.float64) - centroids[None]).sum(-1)
        np.testing.assert_array_equal(search.index_N, distance.argmin(1))
        least_two = np.sort(distance - np.square(x.astype(np.float64)).sum(1)[:, None], axis=1)[:, :2]
        np.testing.assert_allclose(search.score_N, least_two[:, 0], atol=1e-4)
        assert (search.other_N <= least_two[:, 1] + 1e-4).all()


def test_rounds_end_where_lloyds_algorithm_stands_still() -> None:
    x = normal(8, 800, 5)
    result = lloyd(x, 30, iterations=200)
    means = np.stack([x[result.assignment_N == cluster].mean(0) for cluster in range(30)])
    np.testing.assert_allclose(result.centroids_KD, means, rtol=1e-5, atol=1e-5)
    assert np.array_equal(nearest_rows(x, result.centroids_KD), result.assignment_N)


def test_the_spread_start_serves_unlike_rows_better_than_random_rows() -> None:
    """Sparse unlike rows around a dense middle: random starts leave one cluster that swallows the rest."""
    generator = np.random.default_rng(9)
    x = generator.standard_normal((2000, 200)).astype(np.float32) * (generator.random((2000, 200)) < 0.02)
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-9

    by_start = [[lloyd(x, 60, seed=s, initialisation=start).inertia for s in range(3)] for start in STARTS[:2]]
    assert np.mean(by_start[1]) < 0.99 * np.mean(by_start[0])  # spread, random
