"""PGD against foolbox, the release's golden values, and properties that hold for every loss."""

import warnings

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from torch import nn

import advcl_nb as adv

THREATS = [adv.Linf(8 / 255, 2 / 255, 5), adv.L2(0.5, 0.1, 5)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 6, c: int = 3, size: int = 8, seed: int = 0) -> torch.Tensor:
    """Random images with some pixels at 0 and some at 1."""
    return (1.4 * torch.rand(n, c, size, size, generator=seeded(seed)) - 0.2).clamp(0, 1)


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    for weight in model.parameters():
        weight.data.mul_(3)
    return model.eval()


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the type checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def cross_entropy(model: nn.Module, labels: torch.Tensor):
    return lambda x: F.cross_entropy(model(x), labels, reduction="sum")


def lengths(shift: torch.Tensor) -> torch.Tensor:
    return shift.double().flatten(1).norm(dim=1)


def assert_inside(result: torch.Tensor, base: torch.Tensor, threat: adv.Linf | adv.L2) -> None:
    assert result.shape == base.shape and result.dtype == base.dtype
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    if isinstance(threat, adv.L2):
        assert (lengths(result.double() - base.double()) <= threat.epsilon * (1 + 1e-6)).all()
    else:
        ulp = np.spacing(np.maximum(base.numpy(), np.float32(threat.epsilon)))
        assert ((result.double() - base.double()).abs().numpy() <= threat.epsilon + ulp).all()


# ---- against other implementations


@pytest.mark.parametrize("threat", [adv.Linf(8 / 255, 2 / 255, 10, "none"), adv.Linf(0.3, 0.07, 7, "none"),
                                    adv.L2(0.5, 0.1, 10, "none"), adv.L2(3.0, 0.7, 7, "none")], ids=str)  # fmt: skip
def test_pgd_equals_foolbox(network, threat):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox
    x, labels = batch(), torch.tensor([0, 1, 2, 3, 4, 0])
    attack = foolbox.attacks.LinfPGD if isinstance(threat, adv.Linf) else foolbox.attacks.L2PGD
    attack = attack(abs_stepsize=threat.alpha, steps=threat.steps, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    expected = attack.run(model, x, foolbox.criteria.Misclassification(labels), epsilon=threat.epsilon)
    result = adv.pgd(cross_entropy(network, labels), x, threat, generator=seeded())
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)
    assert (lengths(result - x) > 0.1 * threat.epsilon).all()


@pytest.mark.parametrize("steps", [10, 20])
def test_the_golden_values_of_the_releases_attack_on_a_linear_model(steps):
    n = torch.arange(3 * 192, dtype=torch.float64)
    x = (0.5 + 0.49 * torch.sin(0.21 * n)).reshape(3, 3, 8, 8)
    weight = torch.cos(0.11 * torch.arange(5 * 192, dtype=torch.float64)).reshape(5, 192)
    loss = lambda x: F.cross_entropy(x.flatten(1) @ weight.T, torch.arange(3), reduction="sum")  # noqa: E731
    result = adv.pgd(loss, x, adv.Linf(8 / 255, 2 / 255, steps, "none"), generator=seeded())
    assert (result - x).abs().max().item() * 255 == pytest.approx(8, abs=1e-9)
    assert (result - x).sum().item() == pytest.approx(0.6407945592, abs=1e-9)
    assert loss(x).item() == pytest.approx(15.8617170359, abs=1e-9)
    assert loss(result).item() == pytest.approx(31.0376140726, abs=1e-9)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_best_answer_to_a_linear_loss(threat):
    x, weights = torch.full((2, 3, 4, 4), 0.5), torch.randn(2, 3, 4, 4, generator=seeded(3))
    best = weights.sign() if isinstance(threat, adv.Linf) else weights / lengths(weights).view(2, 1, 1, 1)
    threat = type(threat)(threat.epsilon, threat.epsilon, 30)
    result = adv.pgd(lambda x: (weights * x).sum(), x, threat, generator=seeded())
    torch.testing.assert_close(result, (x + threat.epsilon * best).float(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("epsilon, alpha", [(1e-21, 1e-21), (1e-12, 1e-12), (0.1, 1e30)])
def test_an_l2_attack_reaches_its_sphere_at_any_scale(epsilon, alpha):
    x, weights = torch.zeros(2, 3, 4, 4), torch.rand(2, 3, 4, 4, generator=seeded(3)) + 0.1
    result = adv.pgd(lambda x: (weights * x).sum(), x, adv.L2(epsilon, alpha, 3, "none"), generator=seeded())
    torch.testing.assert_close(lengths(result) / epsilon, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1e-38, 1e38])
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_size_of_the_gradient_does_not_matter(threat, scale):
    x, weights = torch.full((2, 3, 4, 4), 0.5), torch.rand(2, 3, 4, 4, generator=seeded(3)) + 0.1
    plain, scaled = (
        adv.pgd(lambda x, c=c: (c * weights * x).sum(), x, threat, generator=seeded()) for c in (1.0, scale)
    )
    torch.testing.assert_close(scaled, plain, atol=1e-6, rtol=0)


def test_the_loss_goes_up(network):
    x, labels = batch(), torch.tensor([0, 1, 2, 3, 4, 0])
    loss = cross_entropy(network, labels)
    for threat in THREATS:
        assert loss(adv.pgd(loss, x, threat, generator=seeded())) > loss(x) + 1


# ---- properties

LOSSES = {
    "linear": lambda x: (x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum(),
    "curved": lambda x: (5 * x).sin().sum(),
    "flat": lambda x: 0 * x.sum(),
    "huge": lambda x: 3e38 * (x - 0.5).sum(),
    "tiny": lambda x: 1e-44 * x.sum(),
    "nan": lambda x: x.sum() * float("nan"),
    "inf": lambda x: x.sum() / 0,
    "partly nan": lambda x: (x - 0.5).sqrt().sum(),
    "partly inf": lambda x: x.sqrt().sum() + x.log().sum(),
}


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    pixels=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=4, max_dims=4, max_side=3),
        elements=st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 0.5]),
    ),
    norm=st.sampled_from([adv.Linf, adv.L2]),
    epsilon=st.floats(0, 1) | st.sampled_from([0.0, 1e-30, 1e-21, 1e-8, 1e-3, 8 / 255, 1.0]),
    alpha=st.floats(0, 1) | st.sampled_from([0.0, 1e-22, 2 / 255]),
    steps=st.integers(0, 4),
    start=st.sampled_from(["uniform", "gaussian", "none"]),
    loss=st.sampled_from(list(LOSSES)),
    seed=st.integers(0, 99),
)
def test_the_result_is_finite_in_range_and_in_the_ball_whatever_the_loss(
    pixels, norm, epsilon, alpha, steps, start, loss, seed
):
    base, threat = torch.from_numpy(pixels), norm(epsilon, alpha, steps, start)
    kept = base.clone()
    assert_inside(adv.pgd(LOSSES[loss], base, threat, generator=seeded(seed)), base, threat)
    assert torch.equal(base, kept)


@pytest.mark.parametrize("epsilon", [1e-3, 0.01, 0.5, 5.0])
@pytest.mark.parametrize("size", [4, 32, 96])
def test_l2_stays_in_the_ball_also_where_rounding_is_large_beside_epsilon(epsilon, size):
    base = 0.25 + batch(8, 3, size, seed=size) / 2  # away from 0 and 1, where clipping would shorten the shift
    for alpha in (epsilon / 4, 1e10):
        threat = adv.L2(epsilon, alpha, 3)
        assert_inside(adv.pgd(LOSSES["curved"], base, threat, generator=seeded()), base, threat)


@pytest.mark.parametrize("norm", [adv.Linf, adv.L2])
def test_no_radius_or_no_step_gives_the_image_back(network, norm):
    x, labels = batch(), torch.zeros(6, dtype=torch.int64)
    for threat in (norm(0.0, 0.1, 3), norm(0.1, 0.1, 0, "none"), norm(0.1, 0.0, 3, "none")):
        result = adv.pgd(cross_entropy(network, labels), x, threat, generator=seeded())
        assert torch.equal(result, x) and result is not x


# ---- the starts


def starts(threat: adv.Linf | adv.L2, base: torch.Tensor) -> torch.Tensor:
    return adv.pgd(lambda x: x.sum(), base, threat, generator=seeded(4)) - base


def test_the_linf_start_is_uniform_in_the_ball():
    shift = starts(adv.Linf(0.1, 0.1, 0), torch.full((500, 1, 4, 4), 0.5)).flatten().numpy()
    assert stats.kstest(shift, stats.uniform(-0.1, 0.2).cdf).pvalue > 0.01
    assert shift.min() < -0.0995 and shift.max() > 0.0995


def test_the_linf_start_is_clipped_to_the_pixels_range():
    shift = starts(adv.Linf(0.1, 0.1, 0), torch.zeros(500, 1, 4, 4)).flatten()
    inside = shift[shift > 0].numpy()
    assert stats.binomtest(len(inside), len(shift), 0.5).pvalue > 0.01 and shift.min() == 0
    assert stats.kstest(inside, stats.uniform(0, 0.1).cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 2), (3, 2, 2)])
def test_the_l2_start_is_uniform_in_the_ball(shape):
    base, d = torch.full((5000, *shape), 0.5), int(np.prod(shape))
    shift = starts(adv.L2(0.3, 0.1, 0), base).double()
    volume = (lengths(shift) / 0.3) ** d  # of the ball through the point, as a share of the whole
    assert stats.kstest(volume.numpy(), "uniform").pvalue > 0.01
    direction = shift.flatten(1) / lengths(shift)[:, None]
    square = direction.square()[:, 0]  # one coordinate squared of a uniform direction is beta distributed
    assert stats.kstest(square.numpy(), stats.beta(0.5, (d - 1) / 2).cdf).pvalue > 0.01
    assert direction.mean(0).abs().max() < 4 / np.sqrt(5000 * d)


@pytest.mark.parametrize("norm", [adv.Linf, adv.L2])
def test_the_gaussian_start_is_that_of_trades(norm):
    shift = starts(norm(0.5, 0.1, 0, "gaussian"), torch.full((500, 1, 4, 4), 0.5)).flatten().numpy()
    assert stats.kstest(shift, stats.norm(0, 0.001).cdf).pvalue > 0.01


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_result_is_a_function_of_the_generator(network, threat):
    loss = cross_entropy(network, torch.zeros(6, dtype=torch.int64))
    first, second, other = (adv.pgd(loss, batch(), threat, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)


# ---- what an attack leaves alone


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_model_the_images_and_the_global_generator_come_back_as_they_were(network, threat):
    model = nn.Sequential(network, nn.BatchNorm1d(5)).train()
    model[0].eval()  # a frozen part inside a training model
    model[0][0].weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [weight.requires_grad for weight in model.parameters()]
    values = [weight.clone() for weight in model.parameters()]
    x, rng = batch().requires_grad_(), torch.get_rng_state()
    result = adv.pgd(cross_entropy(model, torch.zeros(6, dtype=torch.int64)), x, threat, generator=seeded())
    assert [module.training for module in model.modules()] == modes
    assert [weight.requires_grad for weight in model.parameters()] == flags
    assert all(weight.grad is None for weight in model.parameters()) and x.grad is None
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), values, strict=True))
    assert torch.equal(torch.get_rng_state(), rng) and torch.is_grad_enabled()
    assert x.requires_grad and not result.requires_grad and result.grad_fn is None


def test_gradients_already_there_are_kept(network):
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    adv.pgd(cross_entropy(network, torch.zeros(6, dtype=torch.int64)), batch(), THREATS[0], generator=seeded())
    assert all((weight.grad == 1).all() for weight in network.parameters())


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_it_works_inside_no_grad(network, threat):
    loss = cross_entropy(network, torch.zeros(6, dtype=torch.int64))
    expected = adv.pgd(loss, batch(), threat, generator=seeded())
    with torch.no_grad():
        assert torch.equal(adv.pgd(loss, batch(), threat, generator=seeded()), expected)
        assert not torch.is_grad_enabled()
        path = list(adv.pgd_path(loss, batch(), threat, generator=seeded()))
    assert torch.equal(path[-1][0], expected)


# ---- the path


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_path_leads_from_the_start_to_pgds_result_with_the_right_losses(network, threat):
    loss = cross_entropy(network, torch.zeros(6, dtype=torch.int64))
    path = list(adv.pgd_path(loss, batch(), threat, generator=seeded()))
    assert len(path) == threat.steps + 1
    start = adv.pgd(loss, batch(), type(threat)(threat.epsilon, threat.alpha, 0), generator=seeded())
    assert torch.equal(path[0][0], start)
    assert torch.equal(path[-1][0], adv.pgd(loss, batch(), threat, generator=seeded()))
    for images, value in path:
        assert isinstance(value, float) and value == pytest.approx(loss(images).item(), rel=1e-5)
        assert not images.requires_grad
        assert_inside(images, batch(), threat)


def test_the_path_does_not_switch_gradients_off_for_its_caller(network):
    loss = cross_entropy(network, torch.zeros(6, dtype=torch.int64))
    path = adv.pgd_path(loss, batch(), THREATS[0], generator=seeded())
    for _ in range(THREATS[0].steps + 1):
        next(path)
        assert torch.is_grad_enabled()


def test_each_step_asks_for_the_loss_once(network):
    calls = []
    loss = lambda x: calls.append(1) or x.square().sum()  # noqa: E731
    adv.pgd(loss, batch(), adv.Linf(0.1, 0.1, 7), generator=seeded())
    assert len(calls) == 7


# ---- names and errors


@pytest.mark.parametrize(
    "threat, name",
    [(adv.Linf(8 / 255, 2 / 255, 20), "PGD-20, 8/255"), (adv.Linf(8 / 255, 2 / 255, 5, "none"), "PGD-5, 8/255"),
     (adv.Linf(0.5 / 255, 0.1, 1), "PGD-1, 0.5/255"), (adv.Linf(0.0, 0.1, 1), "PGD-1, 0/255"),
     (adv.Linf(1 / 3, 0.1, 40), "PGD-40, 85/255"), (adv.L2(0.5, 0.1, 20), "PGD-20, L2 0.5")],
)  # fmt: skip
def test_an_attack_names_itself(threat, name):
    assert str(threat) == name


def test_epsilon_in_grey_levels_raises_and_says_what_to_write(unchecked):
    with pytest.raises(ValueError) as error:
        adv.Linf(8, 2 / 255, 20)
    assert str(error.value) == "epsilon: expected a value in [0, 1], got 8. For 8 grey levels write 8 / 255."
    with pytest.raises(ValueError, match=r"alpha: .*got 2. For 2 grey levels write 2 / 255."):
        adv.Linf(8 / 255, 2, 20)


@pytest.mark.parametrize(
    "make, message",
    [(lambda: adv.Linf(-0.1, 0.1, 1), "epsilon: expected a value in"), (lambda: adv.L2(-0.1, 0.1, 1), "epsilon: "),
     (lambda: adv.Linf(float("nan"), 0.1, 1), "epsilon"), (lambda: adv.L2(float("inf"), 0.1, 1), "epsilon"),
     (lambda: adv.L2(0.1, -0.1, 1), "alpha"),
     (lambda: adv.Linf(0.1, 0.1, -1), "steps: expected a whole number from 0, got -1"),
     (lambda: adv.Linf(0.1, 0.1, 2.5), "steps: expected a whole number from 0, got 2.5"),
     (lambda: adv.Linf(0.1, 0.1, 1, "random"), "start: expected one of uniform, gaussian, none, got 'random'")],
)  # fmt: skip
def test_a_threat_is_checked_when_made(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_threat_is_a_frozen_value():
    assert adv.Linf(0.1, 0.02, 3) == adv.Linf(0.1, 0.02, 3) != adv.L2(0.1, 0.02, 3)
    assert len({adv.Linf(0.1, 0.02, 3), adv.Linf(0.1, 0.02, 3)}) == 1
    with pytest.raises(AttributeError):
        adv.Linf(0.1, 0.02, 3).epsilon = 0.2


@pytest.mark.parametrize("loss", [lambda x: x.sum((1, 2, 3)), lambda x: torch.ones(()), lambda x: x.detach().sum()])
def test_a_loss_that_is_no_scalar_of_the_images_raises(loss):
    with pytest.raises(ValueError, match="loss_fn: expected a scalar that depends on the images, got float32.*detach"):
        adv.pgd(loss, batch(), THREATS[0], generator=seeded())


def test_wrong_images_raise(unchecked):
    for images in (torch.zeros(3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images: expected"):
            adv.pgd(lambda x: x.sum(), images, THREATS[0], generator=seeded())
