"""Features of a frozen encoder."""

from __future__ import annotations

import pytest
import torch

import advcl_nb as adv
from advcl_nb import features

MODEL = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
IMAGES = adv.shapes(40, size=16)


@pytest.fixture
def encoder():
    """An encoder whose branches' statistics differ, in train mode but for one part; its own branch is "adv"."""
    encoder = adv.build_model(MODEL, generator=torch.Generator().manual_seed(0)).encoder.train()
    for k, branch in enumerate(adv.BRANCHES):
        for _ in range(5):
            encoder(adv.to_float(IMAGES.x[10 * k : 10 * k + 10]), branch)
    encoder.branch = "adv"
    encoder.stem_norm.eval()
    return encoder


def forward(encoder, branch):
    with torch.no_grad():
        return encoder.copy().eval()(IMAGES.x.float() / 255, branch)


@pytest.mark.parametrize("branch", adv.BRANCHES)
def test_features_are_the_encoders_in_eval_mode(encoder, branch):
    expected = forward(encoder, branch)
    found = adv.extract_features(encoder, IMAGES.x, branch=branch)
    assert torch.equal(found, expected) and found.shape == (40, 8)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert all(not torch.equal(found, forward(encoder, other)) for other in adv.BRANCHES if other != branch)


def test_without_a_branch_the_encoders_own_is_used(encoder):
    assert torch.equal(adv.extract_features(encoder, IMAGES.x), forward(encoder, "adv"))
    encoder.branch = "clean"
    assert torch.equal(adv.extract_features(encoder, IMAGES.x), forward(encoder, "clean"))
    with pytest.raises(ValueError, match="branch: expected one of clean, adv, adv_pseudo, got 'pgd'"):
        adv.extract_features(encoder, IMAGES.x, branch="pgd")


def test_the_encoder_comes_back_as_it_was(encoder):
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    for branch in ("clean", "pgd"):  # the second fails half-way
        try:
            adv.extract_features(encoder, IMAGES.x, branch=branch)
        except ValueError:
            assert branch == "pgd"
        assert [module.training for module in encoder.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert encoder.branch == "adv" and torch.is_grad_enabled()


def test_uint8_and_float_images_agree(encoder):
    floats = IMAGES.x.float() / 255
    assert torch.equal(adv.extract_features(encoder, floats), adv.extract_features(encoder, IMAGES.x))
    assert torch.equal(floats, IMAGES.x.float() / 255)


def test_the_batch_size_does_not_matter(encoder, monkeypatch):
    whole = adv.extract_features(encoder, IMAGES.x)
    monkeypatch.setattr(features, "BATCH", 7)
    torch.testing.assert_close(adv.extract_features(encoder, IMAGES.x), whole, rtol=1e-6, atol=1e-6)


def test_features_are_in_float32_whatever_the_pretraining(encoder):
    expected = forward(encoder, "adv")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adv.extract_features(encoder, IMAGES.x), expected)
    encoder.precision = torch.bfloat16
    assert torch.equal(adv.extract_features(encoder, IMAGES.x), expected)
    assert encoder.precision == torch.bfloat16
    with torch.no_grad():
        assert not torch.equal(encoder.eval()(IMAGES.x.float() / 255), expected)  # precision makes a difference


def test_the_global_generator_is_not_touched(encoder):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    adv.extract_features(encoder, IMAGES.x)
    assert torch.equal(torch.rand(2), expected)
