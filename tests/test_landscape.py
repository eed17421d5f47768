"""The loss around an image, its gradients, and the pictures of both and of features under attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

import advcl_nb as adv
from advcl_nb import _batched
from advcl_nb.plots._style import METHOD_COLORS

MODEL = adv.ModelConfig(width=4, blocks=(1, 1), stem=(4, 2), projector=(16, 8), cluster_counts=(2, 5))
IMAGES = adv.shapes(40, size=16)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    """A classifier whose encoder has seen images, in train mode but for one part."""
    encoder = adv.build_model(MODEL, generator=seeded()).encoder.train()
    for _ in range(5):
        encoder(adv.to_float(IMAGES.x), "clean")
    model = adv.Classifier(encoder, 10, generator=seeded(1)).train()
    encoder.stem_norm.eval()
    return model


class Recorder(nn.Module):
    """Three pixels as logits, and a note of every image seen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return 9 * x.flatten(1)[:, :3]


# Gradients


def test_gradients_are_finite_differences_of_each_images_own_loss(model, monkeypatch):
    monkeypatch.setattr(_batched, "BATCH", 3)
    model.double()
    x, y = IMAGES.x[:5].double() / 255 * 0.9 + 0.05, IMAGES.y[:5]
    found = adv.input_gradients(model, x, y)
    assert found.shape == x.shape and found.dtype == torch.float64 and not found.requires_grad
    model.eval()
    for i in range(5):
        for place in torch.randint(x[0].numel(), (4,), generator=seeded(i)).tolist():
            step = torch.zeros(x[0].numel(), dtype=torch.float64)
            step[place] = 1e-5
            step = step.view_as(x[0])
            with torch.no_grad():
                up, down = (F.cross_entropy(model(z[None]), y[i : i + 1]) for z in (x[i] + step, x[i] - step))
            assert found[i].flatten()[place].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-4, abs=1e-9)


def test_gradients_of_uint8_images_are_those_of_their_floats(model):
    found = adv.input_gradients(model, IMAGES.x, IMAGES.y)
    assert torch.equal(found, adv.input_gradients(model, IMAGES.x.float() / 255, IMAGES.y))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found, adv.input_gradients(model, IMAGES.x, IMAGES.y))


# The surface


def attacked(model, i=0):
    x, y = IMAGES.x[i : i + 1].float() / 255, IMAGES.y[i : i + 1]
    loss = lambda z: F.cross_entropy(model(z), y)  # noqa: E731
    model.eval()
    return x[0], y[0], adv.pgd(loss, x, adv.Linf(8 / 255, 2 / 255, 5, start="none"), generator=seeded())[0]


@pytest.mark.parametrize(("points", "reach"), [(25, 1.5), (21, 1.5), (3, 1.0), (9, 4.0)])
def test_the_surface_is_the_cross_entropy_at_the_image_and_at_the_adversarial_one(model, points, reach):
    image, label, adversarial = attacked(model)
    surface = adv.loss_surface(model, image, label, adversarial, generator=seeded(), points=points, reach=reach)
    assert surface.loss.shape == surface.predictions.shape == (points, points)
    assert surface.predictions.dtype == torch.int64 and surface.label == int(label)
    along = surface.along.tolist()
    assert along == sorted(along) and len(along) == points and along[0] == -along[-1]
    assert abs(along[-1] - reach) < 0.1
    origin = along.index(0)
    for x, column in ((image, origin), (adversarial, along.index(1))):
        logits = model.eval()(x[None])
        assert surface.loss[origin, column].item() == pytest.approx(
            F.cross_entropy(logits, label[None]).item(), abs=1e-5
        )
        assert surface.predictions[origin, column] == logits.argmax()


def test_the_plane_is_spanned_by_the_attack_and_by_random_signs_as_large():
    image = torch.rand(2, 5, 5, generator=seeded()) * 0.4 + 0.3
    change = 0.04 * torch.randn(2, 5, 5, generator=seeded(1)).clamp(-2, 2)
    model = Recorder()
    surface = adv.loss_surface(model, image, 1, image + change, generator=seeded(2), points=9, reach=2.0)
    plane = torch.cat(model.seen[1:]).view(9, 9, 2, 5, 5)  # the first image is tried alone
    assert torch.equal(plane[4, 4], image) and torch.equal(plane[4, 6], image + change)
    assert surface.along.tolist() == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2]
    signs = (plane[6, 4] - image) / change.abs().max()
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs), rtol=0, atol=1e-4)
    assert 0.2 < (signs > 0).float().mean() < 0.8
    for r, down in enumerate(surface.along.tolist()):
        for c, right in enumerate(surface.along.tolist()):
            expected = image + right * change + down * signs.sign() * change.abs().max()
            torch.testing.assert_close(plane[r, c], expected.clamp(0, 1), rtol=0, atol=1e-5)
    logits = 9 * plane.flatten(2)[..., :3]
    torch.testing.assert_close(surface.loss, logits.logsumexp(2) - logits[..., 1])
    assert torch.equal(surface.predictions, logits.argmax(2))


def test_the_plane_is_clamped_and_drawn_by_the_generator_alone():
    image, adversarial = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    models = [Recorder() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        adv.loss_surface(model, image, 0, adversarial, generator=seeded(seed), points=5, reach=2.0)
    first, same, other = (torch.cat(model.seen) for model in models)
    assert first.min() == 0 and first.max() == 1 and torch.equal(first, same) and not torch.equal(first, other)


def test_a_surface_says_its_size_range_and_how_often_the_model_is_right():
    predictions = torch.tensor([[0, 1], [0, 0]])
    surface = adv.LossSurface(torch.tensor([0.0, 1.0]), torch.tensor([[0.25, 4.0], [1.0, 2.0]]), predictions, 0)
    assert repr(surface) == "LossSurface(2 x 2 points, loss 0.25 to 4, right on 75% of them)"


def test_nothing_is_left_changed(model):
    image, label, adversarial = attacked(model)
    model.train()
    model.linear.eval()
    model.encoder.precision = torch.bfloat16
    model.linear.weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    images = IMAGES.x.float() / 255
    before = images.clone()
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    for wanted in (0, 10):  # the second is no class
        for call in (
            lambda y: adv.input_gradients(model, images, torch.full((40,), y)),
            lambda y: adv.loss_surface(model, image, y, adversarial, generator=seeded(), points=3, reach=1.0),
        ):
            try:
                call(wanted)
            except ValueError:
                assert wanted == 10
            assert [module.training for module in model.modules()] == modes
            assert [p.requires_grad for p in model.parameters()] == flags
            assert all(p.grad is None for p in model.parameters())
            assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
            assert model.encoder.precision == torch.bfloat16 and torch.is_grad_enabled()
    assert torch.equal(images, before) and not images.requires_grad
    assert torch.equal(torch.rand(2), expected)


X, CHANGED = torch.full((3, 16, 16), 0.5), torch.full((3, 16, 16), 0.6)
BAD = {
    "a class too many": ({"label": 10}, "labels: expected numbers of 10 classes"),
    "a class below 0": ({"label": -1}, "labels: expected class numbers from 0"),
    "a batch": ({"image": X[None]}, r"image: expected one float image \(c, h, w\).*\[0\]"),
    "uint8": ({"adversarial": IMAGES.x[0]}, "adversarial: expected one float image"),
    "too bright": ({"image": X + 1}, r"image: expected uint8, or floats in \[0, 1\]"),
    "not finite": ({"adversarial": X * torch.nan}, r"adversarial: expected uint8, or floats in \[0, 1\]"),
    "other shapes": ({"adversarial": CHANGED[:, :8]}, r"adversarial: expected torch.float32 of shape \(3, 16, 16\)"),
    "other types": ({"adversarial": CHANGED.double()}, "adversarial: expected torch.float32"),
    "no change": ({"adversarial": X}, "adversarial: expected an image other than"),
    "even": ({"points": 24}, "points: expected an odd number"),
    "one point": ({"points": 1}, "points: expected a whole number from 3"),
    "no reach": ({"reach": 0.0}, "reach: expected from 1"),
    "too far": ({"reach": 13.0}, "reach: expected from 1, the attack's end, to 12 for so many points"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_spans_no_plane_is_told(model, name):
    change, message = BAD[name]
    settings = {"image": X, "label": 0, "adversarial": CHANGED, "points": 25, "reach": 1.5} | change
    with pytest.raises(ValueError, match=message) as error:
        adv.loss_surface(model, generator=seeded(), **settings)
    assert ", got " in str(error.value)


def test_what_has_no_gradients_is_told(model):
    for images, labels, message in (
        (
            IMAGES.x[0],
            IMAGES.y[:1],
            r"images: expected one uint8 or float image or more.*image\[None\]",
        ),
        (IMAGES.x.long(), IMAGES.y, "images: expected one uint8 or float"),
        (IMAGES.x.float(), IMAGES.y, r"images: expected uint8, or floats in \[0, 1\].*to_float"),
        (IMAGES.x, IMAGES.y[:5], "labels: expected 40 int64 class numbers"),
        (IMAGES.x, IMAGES.y + 5, "labels: expected numbers of 10 classes"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            adv.input_gradients(model, images, labels)
        assert ", got " in str(error.value)
    with pytest.raises(ValueError, match="model: expected a model that gives logits"):
        adv.input_gradients(model.encoder, IMAGES.x, IMAGES.y)


# Pictures of the surface


def surface_of(slope=1.0, label=0):
    along = torch.linspace(-1.5, 1.5, 13)
    loss = (slope * (along[None] + 1.6)).expand(13, 13)
    return adv.LossSurface(along, loss, (along[None] > 0.6).long().expand(13, 13), label)


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_xlabel()]


@pytest.mark.parametrize("models", [1, 2, 3, 4, 5])
def test_a_surface_has_a_panel_for_each_model_and_one_scale(models):
    names = [f"model {k}" for k in range(models)]
    figure = adv.show_loss_surface({name: surface_of(3.0**k) for k, name in enumerate(names)})
    panels = panels_of(figure)
    assert isinstance(figure, Figure) and len(figure.axes) == models + 1
    assert [axes.get_title("left") for axes in panels] == names
    filled = [axes.collections[0] for axes in panels]
    assert all(list(one.levels) == list(filled[0].levels) for one in filled)
    assert all(one.norm(2.0) == filled[0].norm(2.0) for one in filled)
    low, high = filled[0].levels[[0, -1]]
    assert low <= 0.1 and high > 3.1 * 3 ** (models - 1)
    for axes in panels:
        assert axes.get_xlabel() == "adversarial direction (attack = 1)"
        assert [tuple(line.get_xydata()[0]) for line in axes.get_lines()] == [(0, 0), (1, 0)]
        edge = axes.collections[1].get_paths()[0].vertices
        assert np.allclose(edge[:, 0], 0.625) and edge[:, 1].min() == -1.5 and edge[:, 1].max() == 1.5
    assert panels[0].get_ylabel() == "random direction (same L-inf size)"
    assert figure.axes[-1].get_ylabel() == "cross-entropy (nats)"
    marks = [text.get_text() for text in figure.legends[0].get_texts()]
    assert marks == ["image", "adversarial image", "prediction turns right or wrong"]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_surface_says_what_the_model_sees_and_has_no_line_where_nothing_changes():
    steady = surface_of()._replace(predictions=torch.zeros(13, 13, dtype=torch.int64))
    wrong, calm = panels_of(adv.show_loss_surface({"SimCLR": surface_of(), "AdvCL": steady}, ("cat", "dog")))
    assert wrong.get_title("left") == "SimCLR\ncat: seen as cat,\nattacked as dog"
    assert calm.get_title("left") == "AdvCL\ncat: seen as cat,\nattacked as cat"
    assert len(wrong.collections) == 2 and len(calm.collections) == 1


@pytest.mark.parametrize("slope", [1e-6, 1e-3, 100.0])
def test_flat_and_steep_surfaces_have_a_scale_that_holds_them(slope):
    surface = surface_of(slope)
    (axes,) = panels_of(adv.show_loss_surface({"a": surface}))
    levels = axes.collections[0].levels
    assert levels[0] <= surface.loss.min() and levels[-1] > surface.loss.max() and len(levels) >= 3


# Pictures of gradients and inversions


def tile(figure, columns, i, j, rows, size=16):
    """Tile (i, j) of a mosaic, whose last row ends at the bottom."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    side = (canvas.shape[1] - columns * size) // max(columns - 1, 1)
    pitch = (canvas.shape[0] + side) // rows
    y, x = pitch - side - size + i * pitch, j * (size + side)
    return torch.from_numpy(canvas[y : y + size, x : x + size]).permute(2, 0, 1)


def words(text):
    return " ".join(text.split())


def test_each_gradient_is_scaled_by_itself_around_grey_under_its_largest_value():
    gradients = torch.randn(3, 3, 16, 16, generator=seeded())
    gradients[1] *= 1e-4
    gradients[2] = 0
    figure = adv.show_gradients(IMAGES.x[:3], {"SimCLR": gradients, "AdvCL": -gradients})
    for j in range(3):
        torch.testing.assert_close(tile(figure, 3, 0, j, 3), IMAGES.x[j] / 255)
        peak = gradients[j].abs().max().clamp(min=1e-30)
        torch.testing.assert_close(tile(figure, 3, 1, j, 3), 0.5 + gradients[j] / peak / 2)
        torch.testing.assert_close(tile(figure, 3, 2, j, 3), 0.5 - gradients[j] / peak / 2)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image", "SimCLR", "AdvCL"]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == [""] * 3 and texts[3:6] == texts[6:]
    assert [float(text) for text in texts[3:6]] == pytest.approx(gradients.abs().amax((1, 2, 3)).tolist(), rel=0.06)
    caption = words(axes.get_xlabel())
    assert "scaled by itself" in caption and "mid-grey is 0" in caption and "nats per unit of [0, 1]" in caption


def test_inversions_stand_under_their_originals():
    start, made = (torch.rand(2, 3, 16, 16, generator=seeded(seed)) for seed in (0, 1))
    figure = adv.show_inversions(IMAGES[:2], start, {"SimCLR": made, "AdvCL": 1 - made})
    for i, row in enumerate((IMAGES.x[:2] / 255, start, made, 1 - made)):
        for j in range(2):
            torch.testing.assert_close(tile(figure, 2, i, j, 4), row[j])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["original", "start", "SimCLR", "AdvCL"]
    assert "features" in figure.axes[0].get_title("left") and "Below the start" in words(figure.axes[0].get_xlabel())


# Pictures of features under attack


def test_moved_places_are_crosses_and_some_have_arrows():
    points, labels = torch.rand(12, 2, generator=seeded()), torch.arange(12) % 3
    moved = points + torch.rand(12, 2, generator=seeded(1))
    named = ({"CE": points, "Core": 2 * points}, {"Core": 2 * moved, "CE": moved})  # by name, not by order
    figure = adv.show_embedding(named[0], labels, ["a", "b", "c"], moved=named[1], arrows=4)
    picks = [0, 4, 7, 11]
    for axes, scale in zip(figure.axes, (1, 2), strict=True):
        cloud, crosses, arrows = axes.collections
        assert np.allclose(cloud.get_offsets(), scale * points) and np.allclose(crosses.get_offsets(), scale * moved)
        assert np.allclose(cloud.get_facecolors()[:, :3], crosses.get_edgecolors()[:, :3])
        assert np.allclose(arrows.get_offsets(), scale * points[picks])
        assert np.allclose(np.stack([arrows.U, arrows.V], 1), scale * (moved - points)[picks], atol=1e-6)
        assert arrows.angles == "xy" and arrows.scale_units == "xy" and arrows.scale == 1  # drawn to where they lead
    assert words(figure.get_supxlabel()) == (
        "dots: images; crosses: their adversarial copies arrows: 4 of 12, from an image to its copy"
    )
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_one_map_takes_one_tensor_and_no_arrows_are_none():
    points, labels = torch.rand(12, 2, generator=seeded()), torch.arange(12) % 3
    figure = adv.show_embedding(points, labels, ["a", "b", "c"], moved=points + 1, arrows=0)
    assert len(figure.axes[0].collections) == 2 and "arrows" not in figure.get_supxlabel()
    figure = adv.show_embedding(points, labels, ["a", "b", "c"], moved=points + 1)
    assert len(figure.axes[0].collections[2].get_offsets()) == 12
    assert not adv.show_embedding(points, labels, ["a", "b", "c"]).get_supxlabel()


def test_similarity_has_a_line_for_each_model_over_the_layers():
    clean = {"stem": 1.0, "block 1": 0.6, "features": 0.25}
    (axes,) = (figure := adv.show_layer_similarity({"SimCLR": clean, "AdvCL": {"stem": 0.9, "features": 0.8}})).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(clean)
    first, second = axes.get_lines()
    assert list(first.get_ydata()) == [1.0, 0.6, 0.25] and list(second.get_xdata()) == [0, 2]
    assert (first.get_color(), second.get_color()) == (METHOD_COLORS["simclr"], METHOD_COLORS["advcl"])
    assert axes.get_ylim()[0] == 0 and 1 <= axes.get_ylim()[1] < 1.1
    assert words(axes.get_ylabel()) == "linear CKA, clean against adversarial" and axes.get_xlabel() == "layer"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SimCLR", "AdvCL"]


PLACES, LABELS = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
NOISE = torch.rand(2, 3, 16, 16, generator=seeded())
BAD_PICTURES = {
    "no surface": (lambda: adv.show_loss_surface({}), "surfaces: expected one loss surface or more"),
    "infinite": (
        lambda: adv.show_loss_surface({"a": surface_of()._replace(loss=torch.full((13, 13), torch.inf))}),
        r"surfaces\['a'\]: expected finite losses",
    ),
    "few classes": (lambda: adv.show_loss_surface({"a": surface_of()}, ["cat"]), "classes: expected 2 names or more"),
    "few classes for the label": (
        lambda: adv.show_loss_surface({"a": surface_of(label=4)}, "abc"),
        "classes: .*5 names",
    ),
    "no gradient": (lambda: adv.show_gradients(NOISE, {}), "gradients: expected one model"),
    "other gradients": (
        lambda: adv.show_gradients(NOISE, {"a": NOISE[:1]}),
        r"gradients\['a'\]: expected shape \(2, 3",
    ),
    "nan gradients": (lambda: adv.show_gradients(NOISE, {"a": NOISE * torch.nan}), r"gradients\['a'\]: .*finite"),
    "no inversion": (lambda: adv.show_inversions(NOISE, NOISE, {}), "inverted: expected one model"),
    "other start": (lambda: adv.show_inversions(NOISE, NOISE[:1], {"a": NOISE}), "start: expected shape"),
    "signed": (lambda: adv.show_inversions(NOISE, NOISE, {"a": NOISE - 1}), r"inverted\['a'\]: expected values"),
    "no similarity": (lambda: adv.show_layer_similarity({}), "similarity: expected one model"),
    "no layers": (lambda: adv.show_layer_similarity({"a": {}}), r"similarity\['a'\]: expected a linear CKA"),
    "no CKA": (lambda: adv.show_layer_similarity({"a": {"stem": 1.5}}), r"similarity\['a'\]: .*\[0, 1\]"),
    "moved elsewhere": (
        lambda: adv.show_embedding({"a": PLACES}, LABELS, ["x"], moved={"b": PLACES}),
        "moved: expected places under the names of points",
    ),
    "too few moved": (
        lambda: adv.show_embedding(PLACES, LABELS, ["x"], moved=PLACES[:3]),
        r"moved\[''\]: expected finite places \(4, 2\)",
    ),
    "arrows": (lambda: adv.show_embedding(PLACES, LABELS, ["x"], moved=PLACES, arrows=-1), "arrows: expected a count"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_what_makes_no_picture_is_told(name):
    call, message = BAD_PICTURES[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert ", got " in str(error.value)


def test_a_model_cut_off_from_its_images_is_told(model):
    class Cut(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return model(x)

    with pytest.raises(ValueError, match="model: expected logits that depend on the images"):
        adv.input_gradients(Cut(), IMAGES.x, IMAGES.y)
