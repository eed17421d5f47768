"""Around an image: the gradient of the loss, its values on a plane, and images that have a given feature."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from advcl_nb._batched import check_encoder, check_images, input_gradient, over_batches
from advcl_nb._check import require, require_count, require_generator, require_images, require_rows
from advcl_nb.attacks import L2, pgd_path
from advcl_nb.models import Encoder, evaluating


class LossSurface(NamedTuple):
    """The cross-entropy on a plane through one image: rows go along a random direction, columns along an attack's.

    along: ``(points,)`` positions on both axes; 1 is the attack's own length, in L-inf norm on the random axis.
    loss ``(points, points)`` in nats, predictions ``(points, points)`` int64; label: the image's class number.
    """

    along: Tensor
    loss: Tensor
    predictions: Tensor
    label: int

    def __repr__(self) -> str:
        right = (self.predictions == self.label).double().mean()
        low, high = self.loss.min(), self.loss.max()
        size = " x ".join(map(str, self.loss.shape))
        return f"LossSurface({size} points, loss {low:.3g} to {high:.3g}, right on {right:.0%} of them)"


def input_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient ``(n, c, h, w)`` of each image's own cross-entropy in its pixels, in nats per unit of [0, 1].

    `model` maps uint8 or float images ``(n, c, h, w)`` in [0, 1] to logits. In eval mode and float32; parameters get no
    gradient and the model comes back as it was. On robust models it follows the object's outline, on others it looks
    like noise (Tsipras et al. 2019). Raises ValueError for images or labels that do not fit.
    """
    return over_batches(model, images, labels, "gradients", partial(input_gradient, model))


def loss_surface(
    model: nn.Module,
    image: Tensor,
    label: int | Tensor,
    adversarial: Tensor,
    *,
    generator: Generator,
    points: int = 25,
    reach: float = 1.5,
) -> LossSurface:
    """Return the cross-entropy on the plane of ``adversarial - image`` and a random sign direction as large in L-inf.

    `image` and `adversarial` are floats ``(c, h, w)`` in [0, 1]. Positions go from about -reach to reach on both axes,
    in steps of a whole fraction of 1, so that (0, 0) is exactly the image and (0, 1) exactly the adversarial one.
    Pixels are clamped to [0, 1], so the plane is bent where it leaves that range. `points` is odd. In eval mode and
    float32; the model comes back as it was. After Goodfellow et al. 2015 and Liu et al. 2017 ("Delving into
    transferable adversarial examples"). Raises ValueError for images that do not fit, or are the same.
    """
    _check_plane(image, adversarial)
    whole = isinstance(label, int) or (isinstance(label, Tensor) and label.numel() == 1)
    require(whole, "label", "a class number", label)
    label = int(label)
    require_generator(generator)
    require_count(points, "points", 3)
    require(points % 2 == 1, "points", "an odd number, so that the image lies on the grid", points)
    require(1 <= reach <= points // 2, "reach", f"from 1, the attack's end, to {points // 2} for so many points", reach)
    steps = max(1, round(points // 2 / reach))  # from 0 to 1
    along = torch.arange(-(points // 2), points // 2 + 1).to(image) / steps
    signs = 2 * torch.randint(2, image.shape, generator=generator, device=generator.device).to(image) - 1
    columns = torch.lerp(image, adversarial, along[:, None, None, None])  # exact at 0 and at 1
    rows = along[:, None, None, None] * signs * (adversarial - image).abs().max()
    plane = (columns[None] + rows[:, None]).clamp(0, 1).flatten(0, 1)
    labels = torch.full((len(plane),), label, device=plane.device)
    logits = over_batches(model, plane, labels, "loss surface", lambda x, y: model(x))
    loss = F.cross_entropy(logits, labels, reduction="none")
    return LossSurface(along, loss.view(points, points), logits.argmax(1).view(points, points), label)


def invert_features(
    encoder: Encoder,
    features: Tensor,
    start: Tensor,
    *,
    steps: int = 200,
    alpha: float = 0.1,
    branch: str | None = None,
) -> Tensor:
    """Return images in [0, 1], found from `start`, whose features h(x) match `features` ``(n, d)``.

    `start` are float images ``(n, c, h, w)`` in [0, 1], one a row, for example noise around mid-grey. Each step moves
    an image by `alpha` (Euclidean norm over its pixels) down the normalised gradient of ``|h(x) - h| / |h|``: `adv.pgd`
    in an L2 ball that never binds. What a robust encoder keeps of an image can then be seen (Engstrom et al. 2019,
    "Adversarial robustness as a prior for learned representations"). Eval mode and float32; `branch` as
    in `extract_features`; the encoder comes back as it was. Raises ValueError for features or starts that do not fit.
    """
    check_encoder(encoder)
    require_images(start, "start")
    inside = bool(((start >= 0) & (start <= 1)).all())
    require(inside, "start", "values in [0, 1]", start, "Convert with adv.to_float(uint8 images).")
    require_rows(features, "features")
    wanted = features.detach()
    shape = (len(start), encoder.config.features)
    require(wanted.shape == shape, "features", f"shape {shape}: a row for each start", features)
    lengths = wanted.norm(dim=1)
    require(bool((lengths > 0).all()), "features", "rows that are not all zero", features)
    threat = L2(epsilon=1e3 * start[0].numel() ** 0.5, alpha=alpha, steps=steps, start="none")
    nearness = lambda x: -((encoder(x, branch) - wanted).norm(dim=1) / lengths).sum()  # noqa: E731
    with evaluating(encoder):
        path = pgd_path(nearness, start, threat, generator=Generator(start.device))  # start "none" draws nothing
        for found, _ in tqdm(path, desc="inversion", unit="step", total=steps + 1, leave=False, delay=2):  # noqa: B007
            pass  # the last images count
    return found


def _check_plane(image: Tensor, adversarial: Tensor) -> None:
    """Raise ValueError unless two float images in [0, 1] of one shape and type span a direction."""
    for x, name in ((image, "image"), (adversarial, "adversarial")):
        fits = isinstance(x, Tensor) and x.ndim == 3 and x.is_floating_point()
        require(fits, name, "one float image (c, h, w)", x, "Write adv.to_float(images)[0].")
        check_images(x[None], name)
    same = adversarial.shape == image.shape and adversarial.dtype == image.dtype
    require(same, "adversarial", f"{image.dtype} of shape {tuple(image.shape)}, as image", adversarial)
    todo = "Without a change there is no direction: take an attack that makes one."
    require(bool((adversarial != image).any()), "adversarial", "an image other than `image`", adversarial, todo)
