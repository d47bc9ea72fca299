"""k-means: it finds clusters, leaves none empty while points differ, and never needs more memory than it says."""

import pytest
import torch

from tokenizer import kmeans as module
from tokenizer.kmeans import kmeans, nearest_centroids


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


@pytest.mark.parametrize("initialisation", ["random", "k-means++"])
def test_no_cluster_stays_empty_while_points_differ(initialisation: str) -> None:
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
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 17 * 10)
    chunked, distance = nearest_centroids(x, centroids)
    assert torch.equal(whole, chunked)
    exact = torch.cdist(x.double(), centroids.double()).square()
    assert torch.equal(chunked, exact.argmin(1))
    torch.testing.assert_close(distance.double(), exact.min(1).values, rtol=1e-5, atol=1e-6)
