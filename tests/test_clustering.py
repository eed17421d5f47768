"""Pseudo-labels against scikit-learn's k-means on separable blobs, and cluster quality against tables made by hand."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import advcl_nb as adv

K = 6


def blobs(spread: float = 0.05, n: int = 40, d: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """K tight groups in different directions, in random order, far from the origin."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randperm(K * n, generator=generator) % K
    centres = 3 * torch.eye(d)[:K]
    return 5 + centres[truth] + spread * torch.randn(K * n, d, generator=generator), truth


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("center", [True, False])
def test_columns_agree_with_scikit_learn_up_to_names(center):
    features, truth = blobs()
    counts = (K, 2, K)
    labels = adv.pseudo_labels(features, counts, seed=3, center=center)
    assert labels.shape == (len(features), 3) and labels.dtype == torch.int64
    theirs = KMeans(K, n_init=10, random_state=1).fit(features.numpy()).labels_
    for column in (0, 2):
        assert adjusted_rand_score(theirs, labels[:, column]) == 1
        assert adjusted_rand_score(truth, labels[:, column]) == 1
    for column, k in zip(labels.unbind(1), counts, strict=True):
        assert column.unique().tolist() == list(range(k))


def test_centring_clusters_by_direction_and_without_it_by_place():
    generator = torch.Generator().manual_seed(0)
    side, far = torch.arange(80) % 2, torch.arange(80) // 2 % 2
    rows = torch.stack([2.0 * side - 1, torch.zeros(80)], 1) * (1 + 30 * far[:, None])
    rows += 0.01 * torch.randn(80, 2, generator=generator)
    by_direction = adv.pseudo_labels(rows + 100, [2], seed=0)[:, 0]  # from the mean, wherever that lies
    assert adjusted_rand_score(side, by_direction) == 1
    by_place = adv.pseudo_labels(rows, [3], seed=0, center=False)[:, 0]
    assert adjusted_rand_score((2 * side - 1) * far, by_place) == 1


def test_labels_are_a_function_of_the_seed_and_global_generators_are_left_alone():
    noise = torch.rand(200, 5, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, second, other = (adv.pseudo_labels(noise, (7, 11), seed=s) for s in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


def test_any_stream_number_serves_as_a_seed():
    adv.pseudo_labels(blobs()[0], (2,), seed=adv.Streams(0).number("clusters"))


def test_features_that_carry_gradients_are_left_alone():
    features = blobs()[0].requires_grad_()
    assert not adv.pseudo_labels(features, (2,), seed=0).requires_grad and features.grad is None


@pytest.mark.parametrize("counts", [(), (0,), (2, 241), (-3,)])
def test_wrong_counts_raise(counts):
    with pytest.raises(ValueError, match="counts: expected 1 to 240 clusters"):
        adv.pseudo_labels(blobs()[0], counts, seed=0)


def test_wrong_features_raise(unchecked):
    spoilt = blobs()[0]
    spoilt[3, 2] = float("nan")
    for features in (spoilt, torch.zeros(4, 3, 2)):
        with pytest.raises(ValueError, match=r"features: expected finite numbers \(n, d\), got float32 of shape"):
            adv.pseudo_labels(features, (2,), seed=0)


def test_quality_of_a_table_made_by_hand():
    clusters, classes = torch.tensor([0, 0, 0, 2, 2, 3]), torch.tensor([0, 0, 1, 1, 1, 0])
    quality = adv.cluster_quality(clusters, classes)
    # Clusters of 3, 2 and 1 (number 1 is empty); their most frequent classes cover 2, 2 and 1 of the six images.
    assert quality.clusters == 3 and quality.smallest == 1 and quality.largest == 3
    assert quality.purity == pytest.approx(5 / 6)
    entropy = math.log(2) / 2 + math.log(3) / 3 + math.log(6) / 6
    assert quality.effective == pytest.approx(math.exp(entropy))
    # Joint table [[2, 1], [0, 2], [1, 0]]: mutual information over the mean of both entropies.
    cells = [(2 / 6, 1 / 2, 1 / 2), (1 / 6, 1 / 2, 1 / 2), (2 / 6, 1 / 3, 1 / 2), (1 / 6, 1 / 6, 1 / 2)]
    mutual = sum(p * math.log(p / (a * b)) for p, a, b in cells)
    assert quality.nmi == pytest.approx(mutual / ((entropy + math.log(2)) / 2))
    # Pairs together in both: 1 + 1; in a cluster 3 + 1; in a class 3 + 3; of 15.
    expected, most = 4 * 6 / 15, (4 + 6) / 2
    assert quality.ari == pytest.approx((2 - expected) / (most - expected))


def test_quality_against_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    clusters, classes = torch.randint(9, (500,), generator=generator), torch.randint(4, (500,), generator=generator)
    quality = adv.cluster_quality(clusters, classes)
    assert quality.nmi == pytest.approx(normalized_mutual_info_score(classes, clusters))
    assert quality.ari == pytest.approx(adjusted_rand_score(classes, clusters))
    covered = sum(max(int(((clusters == k) & (classes == c)).sum()) for c in range(4)) for k in range(9))
    assert quality.purity == pytest.approx(covered / 500)
    assert (quality.smallest, quality.largest) == (min(clusters.bincount()), max(clusters.bincount()))


def test_quality_of_a_perfect_and_of_a_single_cluster():
    classes = torch.arange(20) % 4
    perfect = adv.cluster_quality(3 - classes, classes)
    assert perfect == (4, 1.0, pytest.approx(1), pytest.approx(1), pytest.approx(4), 5, 5)
    single = adv.cluster_quality(torch.zeros(20, dtype=torch.int64), classes)
    assert single == (1, 0.25, pytest.approx(0), pytest.approx(0), pytest.approx(1), 20, 20)


def test_quality_of_the_authors_pseudo_labels_is_that_of_the_reference(cifar_root):
    if not (cifar_root / "imagenet_clPretrain_pseudo_labels.pkl").is_file():
        pytest.skip(f"needs the AdvCL authors' imagenet_clPretrain_pseudo_labels.pkl in {cifar_root}")
    classes = adv.load_images("cifar10", "train", root=cifar_root).y
    columns = adv.load_release_pseudo_labels(cifar_root / "imagenet_clPretrain_pseudo_labels.pkl")
    table = {  # K: smallest and largest cluster, exp(entropy), purity, NMI, ARI
        2: (20483, 29517, 1.97, 0.198, 0.333, 0.153),
        10: (4007, 6868, 9.84, 0.551, 0.456, 0.337),
        50: (387, 1613, 47.8, 0.671, 0.442, 0.162),
        100: (145, 892, 95.7, 0.698, 0.418, 0.097),
        500: (30, 198, 477.7, 0.750, 0.379, 0.024),
    }
    for column, (k, (smallest, largest, effective, *scores)) in zip(columns.unbind(1), table.items(), strict=True):
        quality = adv.cluster_quality(column, classes)
        assert (quality.clusters, quality.smallest, quality.largest) == (k, smallest, largest)
        assert quality.effective == pytest.approx(effective, rel=5e-3)
        assert [quality.purity, quality.nmi, quality.ari] == pytest.approx(scores, abs=5.1e-4)


def test_quality_needs_one_label_per_image_and_labelled_images(unchecked):
    with pytest.raises(ValueError, match="labels: expected whole numbers of shape \\(4,\\), one for each"):
        adv.cluster_quality(torch.arange(4), torch.arange(5))
    with pytest.raises(ValueError, match="labels: expected numbers from 0, got int64 .*unlabelled"):
        adv.cluster_quality(torch.arange(4), torch.tensor([0, 1, -1, 0]))
