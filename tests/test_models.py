"""The network against torchvision's ResNet and the release's parameter counts, and branches that stay apart."""

import copy

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import advcl_nb as adv
from advcl_nb.models import evaluating

SMALL = adv.ModelConfig(width=8, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(seed: int = 0) -> adv.AdvCLModel:
    return adv.build_model(SMALL, generator=seeded(seed))


def images(n: int = 8, size: int = 8, c: int = 3) -> torch.Tensor:
    return torch.rand(n, c, size, size, generator=seeded(9))


def count(parameters) -> int:
    return sum(weight.numel() for weight in parameters)


def branch_parameters(encoder: adv.Encoder, branch: str) -> list[torch.Tensor]:
    return [weight for name, weight in encoder.named_parameters() if f"branches.{branch}." in name]


def statistics(encoder: adv.Encoder, branch: str) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in encoder.named_buffers() if f"branches.{branch}." in name]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def release() -> adv.AdvCLModel:
    return adv.build_model(adv.ModelConfig(), generator=seeded())


# ---- the release's ResNet-18


def test_the_release_has_these_parameter_counts(release):
    for branch in adv.BRANCHES:
        assert count(branch_parameters(release.encoder, branch)) == 9_600
    assert count(release.encoder.parameters()) - 2 * 9_600 == 11_168_832
    assert count(release.projector.parameters()) == 329_344
    assert [count(head.parameters()) for head in release.heads] == [1_026, 5_130, 25_650, 51_300, 256_500]
    unused_in_the_release = 33_280 + 776_680  # head_pred and head_ce, which we leave out
    assert count(release.parameters()) == 12_666_942 - unused_in_the_release


def test_there_are_twenty_norm_layers_of_three_branches(release):
    assert adv.BRANCHES == ("clean", "adv", "adv_pseudo")
    norms = [module for module in release.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20 * 3 and len({id(norm.weight) for norm in norms}) == 60


@pytest.mark.parametrize("branch, training", [("clean", False), ("adv", True), ("adv_pseudo", True)])
def test_a_branch_computes_what_torchvisions_resnet18_computes(release, branch, training):
    from torchvision.models import resnet18

    encoder = copy.deepcopy(release.encoder).double()
    for name, tensor in encoder.state_dict().items():  # every branch its own numbers
        if "branches" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=seeded(len(name) + sum(map(ord, name)))))
    twin = resnet18().double()
    twin.conv1, twin.maxpool, twin.fc = nn.Conv2d(3, 64, 3, 1, 1, bias=False).double(), nn.Identity(), nn.Identity()
    ours = [t for name, t in encoder.state_dict().items() if "branches" not in name or f"branches.{branch}." in name]
    twin.load_state_dict(dict(zip(twin.state_dict(), ours, strict=True)))
    encoder.train(training), twin.train(training)
    x = images(2, 12).double()
    torch.testing.assert_close(encoder(x, branch), twin(x))
    ours = [t for name, t in encoder.state_dict().items() if "branches" not in name or f"branches.{branch}." in name]
    torch.testing.assert_close(ours, list(twin.state_dict().values()))


def test_weights_are_drawn_as_the_release_draws_them(release):
    convolutions = [module for module in release.encoder.modules() if isinstance(module, nn.Conv2d)]
    for conv in convolutions:
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    for norm in (module for module in release.modules() if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d))):
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
    for linear in (module for module in release.modules() if isinstance(module, nn.Linear)):
        bound = linear.in_features**-0.5
        assert linear.weight.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


# ---- branches


@pytest.mark.parametrize("branch", adv.BRANCHES)
def test_one_branchs_statistics_never_move_anothers(branch):
    encoder = small().encoder.train()
    before = {name: statistics(encoder, name) for name in adv.BRANCHES}
    encoder(images(), branch)
    for name in adv.BRANCHES:
        assert equal(statistics(encoder, name), before[name]) == (name != branch)


@pytest.mark.parametrize("branch", adv.BRANCHES)
def test_gradients_reach_the_shared_weights_and_one_branch_only(branch):
    encoder = small().encoder.train()
    encoder(images(), branch).square().sum().backward()
    for name, weight in encoder.named_parameters():
        used = "branches" not in name or f"branches.{branch}." in name
        assert (weight.grad is not None) == used, name


def test_eval_mode_moves_no_statistics_and_branches_differ_once_trained():
    encoder = small().encoder.train()
    encoder(images(), "adv")
    encoder.eval()
    before = [statistics(encoder, name) for name in adv.BRANCHES]
    clean, adversarial = encoder(images(), "clean"), encoder(images(), "adv")
    assert all(equal(statistics(encoder, name), old) for name, old in zip(adv.BRANCHES, before, strict=True))
    assert (clean - adversarial).abs().max() > 1e-3


def test_the_encoders_own_branch_is_used_where_none_is_named():
    encoder = small().encoder.train()
    encoder(images(), "adv")
    encoder.eval()
    for branch in adv.BRANCHES:
        encoder.branch = branch
        assert torch.equal(encoder(images()), encoder(images(), branch))


def test_a_wrong_branch_raises():
    for call in (lambda: small().encoder(images(), "pgd"), lambda: adv.Encoder(SMALL, "pgd"),
                 lambda: adv.Classifier(small().encoder, 5, generator=seeded(), branch="pgd")):  # fmt: skip
        with pytest.raises(ValueError, match="branch: expected one of clean, adv, adv_pseudo, got 'pgd'"):
            call()


# ---- shapes and settings


@pytest.mark.parametrize("width, blocks", [(8, (1, 1, 1)), (4, (2, 2, 2, 2)), (16, (3,)), (8, (1, 2))])
@pytest.mark.parametrize("stem", [(3, 1), (4, 2)])
@pytest.mark.parametrize("channels, size", [(3, 32), (1, 8), (3, 17)])
def test_small_networks_by_width_and_depth(width, blocks, stem, channels, size):
    config = adv.ModelConfig(channels, width, blocks, stem, (16, 8), (2, 5))
    model = adv.build_model(config, generator=seeded())
    x = images(3, size, channels)
    assert config.features == width * 2 ** (len(blocks) - 1)
    assert model.encoder.stem(x).shape == (3, width, size // stem[1], size // stem[1])
    assert model.encoder(x, "clean").shape == (3, config.features)
    z = model(x, "adv")
    assert z.shape == (3, 8)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
    assert [logits.shape for logits in model.head_logits(x, "adv_pseudo")] == [(3, 2), (3, 5)]
    convolutions = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) == 2 * sum(blocks) + (stem[0] == 3)


def test_the_embedding_and_the_heads_come_from_the_feature():
    model, x = small().eval(), images()
    features = model.encoder(x, "adv")
    torch.testing.assert_close(model(x, "adv"), F.normalize(model.projector(features)))
    for logits, head in zip(model.head_logits(x, "adv"), model.heads, strict=True):
        torch.testing.assert_close(logits, features @ head.weight.T + head.bias)


@pytest.mark.parametrize(
    "field, value",
    [("channels", 0), ("width", 0), ("blocks", ()), ("blocks", (1, 0)), ("stem", (0, 1)), ("stem", (3,)),
     ("projector", (64,)), ("projector", (64, 0)), ("cluster_counts", (1, 10))],
)  # fmt: skip
def test_settings_are_checked_when_made(field, value, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        adv.ModelConfig(**{field: value})


def test_bfloat16_runs_in_the_encoder_alone_and_gives_float32_features():
    model, x = small().eval(), images()
    exact = model.encoder(x, "clean")
    model.encoder.precision = torch.bfloat16
    rounded = model.encoder(x, "clean")
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


# ---- randomness


def test_weights_are_a_function_of_the_generator_and_the_global_one_is_left_alone():
    before = torch.get_rng_state()
    first, second, other = small(1), small(1), small(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(list(first.state_dict().values()), list(second.state_dict().values()))
    for (name, a), b in zip(first.named_parameters(), other.parameters(), strict=True):
        constant = "branches" in name or "projector.1" in name
        assert torch.equal(a, b) == constant, name


# ---- copies, modes, classifiers


def test_a_copy_is_equal_and_independent():
    encoder = small().encoder.train()
    encoder(images(), "adv")
    encoder.branch, encoder.precision = "adv", torch.bfloat16
    before, kept = torch.get_rng_state(), {name: t.clone() for name, t in encoder.state_dict().items()}
    twin = encoder.copy()
    assert torch.equal(torch.get_rng_state(), before)
    assert twin.branch == "adv" and twin.precision == torch.float32 and twin.config == encoder.config
    assert equal(list(twin.state_dict().values()), list(kept.values()))
    for weight in twin.parameters():
        weight.data.zero_()
    twin.train()(images(), "adv")
    assert equal(list(encoder.state_dict().values()), list(kept.values()))


def test_evaluating_gives_every_module_its_mode_back():
    model = small().train()
    model.encoder.blocks[0].eval()  # frozen inside a training model
    model.encoder.precision = torch.bfloat16
    modes = [module.training for module in model.modules()]
    assert True in modes and False in modes
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert model.encoder.precision == torch.float32
    assert [module.training for module in model.modules()] == modes and model.encoder.precision == torch.bfloat16
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == modes and model.encoder.precision == torch.bfloat16


def test_a_classifier_is_a_branch_and_a_linear_layer():
    encoder = small().encoder.train()
    encoder(images(), "adv")
    before = torch.get_rng_state()
    classifier = adv.Classifier(encoder, 7, generator=seeded(3), branch="adv").eval()
    assert torch.equal(torch.get_rng_state(), before)
    features = encoder(images(), "adv")
    expected = features @ classifier.linear.weight.T + classifier.linear.bias
    torch.testing.assert_close(classifier(images()), expected)
    again = adv.Classifier(encoder, 7, generator=seeded(3))
    assert torch.equal(again.linear.weight, classifier.linear.weight) and again.branch == encoder.branch == "clean"
    assert not torch.equal(adv.Classifier(encoder, 7, generator=seeded(4)).linear.bias, classifier.linear.bias)


def test_a_classifier_needs_two_classes():
    with pytest.raises(ValueError, match="classes: expected two or more, got 1"):
        adv.Classifier(small().encoder, 1, generator=seeded())


@pytest.mark.parametrize("branch", adv.BRANCHES)
def test_a_folded_classifier_is_the_same_function_and_leaves_its_source_alone(branch):
    classifier = adv.Classifier(small().encoder, 5, branch=branch, generator=seeded())
    generator = seeded(1)
    for norm in (module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            tensor.uniform_(0.5, 2, generator=generator)  # no two branches alike
    before = copy.deepcopy(classifier.state_dict())
    folded = classifier.folded()
    torch.testing.assert_close(folded(images()), classifier.eval()(images()), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, before[name])
    folded.train()
    torch.testing.assert_close(folded(images()), classifier(images()), rtol=1e-4, atol=1e-4)  # nothing left to move
    other = next(name for name in adv.BRANCHES if name != branch)
    with pytest.raises(ValueError, match=f"expected {branch}, the one folded"):
        folded.encoder(images(), other)
    assert torch.equal(folded.folded()(images()), folded(images()))


def test_a_folded_encoder_is_not_saved(tmp_path):
    folded = adv.Classifier(small().encoder, 5, generator=seeded()).folded()
    with pytest.raises(ValueError, match="one with its batch norms"):
        adv.save_encoder(folded.encoder, tmp_path / "e.pt", config=adv.preset("smoke"), history=[])
    assert not list(tmp_path.iterdir())
