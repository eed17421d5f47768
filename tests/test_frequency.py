"""The frequency split against golden values of the AdvCL release and against numpy, coefficient by coefficient."""

import jaxtyping
import numpy as np
import pytest
import torch

import advcl_nb as adv

SIZES = [(32, 32), (7, 7), (8, 5), (5, 8), (9, 12), (1, 6), (6, 1), (16, 31)]
GOLDEN = [  # radius, sum of |y|, y[1, 2, 5, 7], energy of y over energy of x: the release's generate_high in float64
    (0.0, 3073.1291515210, 0.9266347276, 1.0),
    (4.0, 1725.3698131270, 0.2782840454, 0.273924),
    (8.0, 199.2617208886, -0.0218581153, 0.007822),
    (12.0, 127.7486841205, -0.0223152120, 0.002855),
    (16.0, 55.7586174922, 0.0075396399, 0.000297),
    (23.0, 0.0, 0.0, 0.0),
]
REMOVED = [
    0, 1, 9, 25, 45, 69, 109, 145, 193, 249, 305, 373, 437, 517, 609, 697, 793, 867, 927, 963, 995, 1011, 1023, 1024,
]  # fmt: skip


def golden_images() -> torch.Tensor:
    n = torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)
    return (0.5 + 0.5 * torch.sin(0.37 * n)).reshape(2, 3, 32, 32)


def random_images(h: int, w: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(2, 3, h, w, dtype=dtype, generator=torch.Generator().manual_seed(100 * h + w))


def signed(k: int, size: int) -> int:
    """The frequency of coefficient k: negative in the upper half."""
    return k if k <= size // 2 else k - size


def high_pass_by_loop(images: torch.Tensor, radius: float) -> np.ndarray:
    result = np.zeros(images.shape)
    h, w = images.shape[2:]
    for i, j in np.ndindex(*images.shape[:2]):
        spectrum = np.fft.fft2(images[i, j].numpy())
        for k1, k2 in np.ndindex(h, w):
            if signed(k1, h) ** 2 + signed(k2, w) ** 2 < radius**2:
                spectrum[k1, k2] = 0
        result[i, j] = np.fft.ifft2(spectrum).real
    return result


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the shape checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("radius, total, pixel, ratio", GOLDEN)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_golden_values_of_the_release(radius, total, pixel, ratio, dtype, tolerance):
    x = golden_images()
    y = adv.high_pass(x.to(dtype), radius)
    assert y.dtype == dtype
    y = y.double()
    assert y[1, 2, 5, 7].item() == pytest.approx(pixel, abs=tolerance)
    assert y.abs().sum().item() == pytest.approx(total, abs=tolerance * y.numel() if dtype == torch.float32 else 1e-9)
    assert (y.square().sum() / x.square().sum()).item() == pytest.approx(ratio, abs=5e-7)


@pytest.mark.parametrize("radius", range(24))
def test_number_of_coefficients_removed_at_32_pixels(radius):
    assert adv.radial_mask(32, 32, float(radius)).sum() == REMOVED[radius]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [0.0, 1.0, 2.5, 4.0, 50.0])
def test_high_pass_equals_a_loop_over_coefficients(size, radius):
    x = random_images(*size)
    np.testing.assert_allclose(adv.high_pass(x, radius).numpy(), high_pass_by_loop(x, radius), atol=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_the_mask_equals_a_loop(size):
    h, w = size
    expected = [[signed(k1, h) ** 2 + signed(k2, w) ** 2 < 9 for k2 in range(w)] for k1 in range(h)]
    assert adv.radial_mask(h, w, 3.0).tolist() == expected


@pytest.mark.parametrize("size", SIZES)
def test_it_is_a_linear_projection_and_low_plus_high_is_the_image(size):
    x, y = random_images(*size), random_images(*size).flip(0)
    high = adv.high_pass(x, 2.0)
    torch.testing.assert_close(adv.high_pass(high, 2.0), high)
    torch.testing.assert_close(adv.high_pass(3 * x - y, 2.0), 3 * high - adv.high_pass(y, 2.0))
    torch.testing.assert_close(adv.low_pass(x, 2.0) + high, x)
    torch.testing.assert_close(adv.low_pass(high, 2.0), torch.zeros_like(x))
    assert high.mean((2, 3)).abs().max() < 1e-15


def test_it_is_signed_and_not_clipped():
    high = adv.high_pass(random_images(32, 32), 8.0)
    assert high.min() < -0.3 and high.max() > 0.3


@pytest.mark.parametrize("split", [adv.high_pass, adv.low_pass])
def test_the_gradient_is_the_filter_of_the_gradient(split):
    x, weights = random_images(9, 12).requires_grad_(), random_images(9, 12).flip(3)
    (gradient,) = torch.autograd.grad((weights * split(x, 3.0)).sum(), x)
    torch.testing.assert_close(gradient, split(weights, 3.0))  # the filter is symmetric as a matrix


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(dtype):
    x = random_images(8, 8, torch.float32).to(dtype)
    exact = adv.high_pass(x.double(), 2.0)
    for result, expected in [(adv.high_pass(x, 2.0), exact), (adv.low_pass(x, 2.0), x.double() - exact)]:
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), expected, atol=2 * torch.finfo(dtype).eps, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_the_spectrum_keeps_parsevals_theorem_ring_by_ring(size):
    x = random_images(*size)
    spectrum = adv.radial_spectrum(x)
    torch.testing.assert_close(spectrum.sum(1), x.square().sum((2, 3)).mean(1))
    for radius in range(spectrum.shape[1] + 2):
        energy = adv.high_pass(x, float(radius)).square().sum((2, 3)).mean(1)
        torch.testing.assert_close(spectrum[:, radius:].sum(1), energy, atol=1e-12, rtol=1e-9)


def test_a_pure_wave_lies_in_its_own_ring():
    spectrum = adv.radial_spectrum(adv.fourier_basis(32, 32, 3, 4)[None, None])
    assert spectrum.argmax() == 5 and spectrum[0, 5].item() == pytest.approx(1, abs=1e-5)


def test_the_spectrum_of_half_precision_images():
    x = random_images(8, 8, torch.float32).half()
    torch.testing.assert_close(adv.radial_spectrum(x).double(), adv.radial_spectrum(x.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (8, 5), (9, 12)])
@pytest.mark.parametrize("k", [(0, 0), (1, 0), (0, 2), (3, 2), (-3, 2), (4, 2)])
def test_a_basis_wave_has_unit_norm_and_one_frequency(size, k):
    wave = adv.fourier_basis(*size, *k)
    assert wave.shape == size and wave.norm().item() == pytest.approx(1, abs=1e-6)
    power = np.abs(np.fft.fft2(wave.double().numpy())) ** 2
    own = {(k[0] % size[0], k[1] % size[1]), (-k[0] % size[0], -k[1] % size[1])}
    assert sum(power[place] for place in own) == pytest.approx(power.sum(), rel=1e-10)


def test_errors_name_the_argument_and_say_what_to_do(unchecked):
    x = random_images(8, 8)
    with pytest.raises(ValueError, match=r"radius: expected a number of cycles >= 0, got -1"):
        adv.high_pass(x, -1.0)
    with pytest.raises(ValueError, match="radius"):
        adv.radial_mask(8, 8, float("nan"))
    with pytest.raises(ValueError, match=r"images: .*\(n, c, h, w\), got float64 of shape \(3, 8, 8\).*image\[None\]"):
        adv.high_pass(x[0], 2.0)
    for function in (adv.radial_spectrum, lambda images: adv.low_pass(images, 2.0)):
        with pytest.raises(ValueError, match=r"images: expected floats in \[0, 1\], got uint8.*to_float"):
            function(x.to(torch.uint8))
