"""k-means: it finds clusters, leaves none empty while points differ, and never needs more memory than it says."""

import numpy as np
import pytest
import torch

from tokenizer.clustering import nearest
from tokenizer.clustering.kmeans import Initialisation, kmeans, lloyd, nearest_centroids

STARTS: tuple[Initialisation, ...] = ("random", "spread", "k-means++")


def blobs(seed: int = 0, clusters: int = 8, each: int = 40, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 20 * torch.randn(clusters, width, generator=generator)
    label = torch.arange(clusters).repeat_interleave(each)
    return centres[label] + 0.1 * torch.randn(len(label), width, generator=generator), label


def test_finds_well_separated_clusters() -> None:
    x, label = blobs()
    result = kmeans(x, 8, initialisation="k-means++", restarts=3)
    pairs = {(int(a), int(b)) for a, b in zip(result.assignment_N, label, strict=True)}
    assert len(pairs) == 8  # a bijection between found and true clusters
    assert result.inertia == pytest.approx(
        float((x - result.centroids_KD[result.assignment_N]).square().sum()), rel=1e-4
    )


@pytest.mark.parametrize("initialisation", STARTS)
def test_no_cluster_stays_empty_while_points_differ(initialisation: Initialisation) -> None:
    generator = torch.Generator().manual_seed(1)
    heavy = torch.zeros(900, 4)  # most points are equal: starts drawn among them collapse onto one centroid
    x = torch.cat([heavy, torch.randn(100, 4, generator=generator)])
    result = kmeans(x, 60, seed=2, initialisation=initialisation)
    assert len(result.assignment_N.unique()) == 60


def test_as_many_clusters_as_distinct_points_leave_no_error() -> None:
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(3)).repeat(5, 1)
    result = kmeans(x, 12)
    assert result.inertia == pytest.approx(0.0, abs=1e-9)
    assert len(result.assignment_N.unique()) == 12


def test_fewer_points_than_clusters_and_a_single_point() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(4))
    result = kmeans(x, 16)
    assert result.centroids_KD.shape == (16, 3)
    assert result.inertia == pytest.approx(0.0, abs=1e-9)
    assert kmeans(x[:1], 4, initialisation="k-means++").inertia == 0.0


def test_same_seed_same_result_and_more_iterations_are_not_worse() -> None:
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(5))
    first, again = kmeans(x, 20, seed=7), kmeans(x, 20, seed=7)
    assert torch.equal(first.centroids_KD, again.centroids_KD)
    assert not torch.equal(first.centroids_KD, kmeans(x, 20, seed=8).centroids_KD)
    assert first.inertia <= kmeans(x, 20, seed=7, iterations=1).inertia
    assert kmeans(x, 20, seed=7, restarts=4).inertia <= first.inertia


def test_chunks_do_not_change_the_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(6)
    x, centroids = torch.randn(301, 5, generator=generator), torch.randn(17, 5, generator=generator)
    whole, _ = nearest_centroids(x, centroids)
    monkeypatch.setattr(nearest, "CHUNK_ELEMENTS", 17 * 10)
    chunked, distance = nearest_centroids(x, centroids)
    assert torch.equal(whole, chunked)
    exact = torch.cdist(x.double(), centroids.double()).square()
    assert torch.equal(chunked, exact.argmin(1))
    torch.testing.assert_close(distance.double(), exact.min(1).values, rtol=1e-5, atol=1e-6)


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
    x = torch.randn(800, 5, generator=torch.Generator().manual_seed(8))
    result = kmeans(x, 30, iterations=200)
    means = torch.stack([x[result.assignment_N == cluster].mean(0) for cluster in range(30)])
    torch.testing.assert_close(result.centroids_KD, means, rtol=1e-5, atol=1e-5)
    assert torch.equal(nearest_centroids(x, result.centroids_KD)[0], result.assignment_N)


def test_the_spread_start_serves_unlike_rows_better_than_random_rows() -> None:
    """Sparse unlike rows around a dense middle: random starts leave one cluster that swallows the rest."""
    generator = np.random.default_rng(9)
    x = generator.standard_normal((2000, 200)).astype(np.float32) * (generator.random((2000, 200)) < 0.02)
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-9

    inertia = {
        start: np.mean([lloyd(x, 60, seed=s, initialisation=start).inertia for s in range(3)]) for start in STARTS[:2]
    }
    assert inertia["spread"] < 0.99 * inertia["random"]
