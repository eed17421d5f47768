"""The release's schedule that the benchmarks time ours against: is it the release's?"""

from __future__ import annotations

import pytest
import reference
import torch
from torchvision import transforms

import advcl_nb as adv


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
