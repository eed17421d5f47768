"""Streams: a draw is a function of seed, name and position alone."""

import pytest
import torch

import advcl_nb as adv
from advcl_nb.rng import STREAMS


def numbers(generator: torch.Generator) -> list[float]:
    return torch.rand(5, generator=generator).tolist()


@pytest.mark.parametrize(
    "seed, name, position, digest",  # the first eight bytes that `printf 0/views/3/7 | sha256sum` prints
    [(0, "views", (3, 7), "8c6492fb45ad9a22"), (12, "init", (), "a966703854f4eee2")],
)
def test_the_seed_is_sha256_of_seed_name_and_position(seed, name, position, digest):
    expected = int.from_bytes(bytes.fromhex(digest), "little") // 2
    assert adv.Streams(seed).number(name, *position) == expected
    assert adv.Streams(seed)(name, *position).initial_seed() == expected


def test_each_call_gives_a_fresh_generator_that_others_cannot_move():
    streams = adv.Streams(3)
    first = numbers(streams("attack", 1, 2))
    numbers(streams("views", 1, 2))
    assert numbers(streams("attack", 1, 2)) == first
    assert numbers(adv.Streams(3)("attack", 1, 2)) == first


def test_seeds_names_and_positions_all_tell_streams_apart():
    positions = [(), (0,), (1,), (0, 0), (1, 11), (11, 1), (111,)]
    seen = {adv.Streams(s).number(name, *p) for s in range(5) for name in STREAMS for p in positions}
    assert len(seen) == 5 * len(STREAMS) * len(positions)
    assert all(0 <= number < 2**63 for number in seen)


def test_the_eight_streams_of_the_package():
    assert STREAMS == ("data", "init", "order", "views", "attack", "clusters", "mixing", "eval")


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    numbers(adv.Streams(0)("data"))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name_raises():
    with pytest.raises(ValueError, match="name: expected one of data, init.*, got 'veiws'"):
        adv.Streams(0)("veiws")
