"""The release's schedule that the benchmarks time ours against: is it the release's?"""

from __future__ import annotations

import math

import pytest
import reference
import torch
from release_schedule import sup_con_loss
from torchvision import transforms

import advcl_nb as adv


@pytest.mark.parametrize(("views", "n"), [(2, 3), (4, 5)])
def test_its_loss_by_masks_is_the_loop(views, n, generator):
    z = torch.randn(views, n, 6, generator=generator, dtype=torch.float64)
    z = torch.nn.functional.normalize(z, dim=2).requires_grad_()
    by_masks, by_loop = reference.sup_con_loss(list(z), 0.5), sup_con_loss(list(z), 0.5)
    assert torch.allclose(by_masks, by_loop, rtol=1e-12)
    assert torch.allclose(*(torch.autograd.grad(loss, z)[0] for loss in (by_masks, by_loop)), atol=1e-12)


def test_a_collapsed_batch_costs_the_releases_constant():
    z = torch.ones(4, 8, 5) / math.sqrt(5)
    assert reference.sup_con_loss(list(z), 0.5).item() == pytest.approx(0.5 / 0.07 * math.log(31), rel=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 3.5, 8, 23])
def test_its_high_view_is_ours(radius, generator):
    images = torch.rand(3, 3, 32, 32, generator=generator)
    assert torch.allclose(reference.high_pass(images, radius), adv.high_pass(images, radius), atol=1e-6)


def test_its_images_are_drawn_independently_and_in_range():
    images = adv.shapes(4, size=32)
    data = reference.ReleaseImages(images.x, images.y)
    assert len(data) == 4
    view1, view2, base, label = data[2]
    assert label == images.y[2] and {view.shape for view in (view1, view2, base)} == {(3, 32, 32)}
    assert not torch.equal(view1, view2) and all(view.min() >= 0 and view.max() <= 1 for view in (view1, view2, base))
    names = [type(step).__name__ for step in data.strong.transforms]
    assert names == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "RandomGrayscale", "ToTensor"]
    assert isinstance(data.weak.transforms[0], transforms.RandomCrop) and data.weak.transforms[0].padding == 4
