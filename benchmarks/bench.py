"""Time AdvCL's training engine beside the release's schedule, in one run, alternating. `make bench` runs it whole.

    python benchmarks/bench.py [step] [views] [memory] [scaling] [--rounds 5] [--device cuda] [--threads 2]

step: a step of ResNet-18 as the release schedules it (reference.py) and ours, in float32, with channels_last, and in
bfloat16; from the same weights, views and starts, adversarial images are compared. On a GPU also compiled, with the
share of the card's measured bfloat16 matrix rate. At the end, where a step spends its time. views: the augmentation and
the high-pass filter, on one thread. memory: the peak of a training process over that of one that has imported torch.
scaling: seconds against width, batch, attack steps and images; writes benchmarks/scaling.png.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from reference import Reference, Release, ReleaseImages, high_pass, make_optimizer, release_step
from scaling import measure_scaling
from timing import MACS, RATE, alternate, forward_units, some_images, start, step_of
from torch.profiler import ProfilerActivity, profile

import advcl_nb as adv
from advcl_nb import pretrain

SETTINGS = {
    "float32": {},
    "float32, channels_last": {"channels_last": True},
    "bfloat16, channels_last": {"channels_last": True, "precision": "bfloat16"},
}
COMPILED = {"bfloat16, channels_last, compiled": SETTINGS["bfloat16, channels_last"] | {"compile": True}}
AIMS = {"float32": 1.35, "float32, channels_last": 1.7, "bfloat16, channels_last": 3.5}  # on two CPU cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="64 on a CPU, 512 on a GPU by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.batch = options.batch or (512 if options.device == "cuda" else 64)
    machine = adv.cards.hardware(options.device)
    print(f"{machine}, torch {torch.__version__}, {options.threads} threads, batch {options.batch}")
    for part in options.parts:
        print(f"\n{part}")
        PARTS[part](options)


def time_steps(options: argparse.Namespace) -> None:
    """Alternate a step of the reference and one of each setting; print medians, ratios, and what is the same."""
    images, labels = some_images(options.batch, options.device)
    settings = SETTINGS | (COMPILED if options.device == "cuda" else {})
    states = {name: start(changes, options.device) for name, changes in settings.items()}
    workers = 8 if options.device == "cuda" else 0
    constants = Release(learning_rate=RATE)
    reference = Reference(start({}, options.device).model, images, labels, constants, workers=workers)
    with attacks_kept() as kept:
        adv.pretrain_step(states["float32"], images, labels)
    print_differences(states["float32"], kept, constants, labels)
    for state in states.values():  # a round before the clock, in which compilers and allocators warm up
        adv.pretrain_step(state, images, labels)
    reference.step()
    steps = {"reference": reference.step}
    steps |= {name: step_of(state, images, labels) for name, state in states.items()}
    seconds = alternate(steps, options.rounds)
    base = statistics.median(seconds["reference"])
    rate = matrix_rate() if options.device == "cuda" else None
    print(f"{'':36}{'s a step':>10}{'images/s':>10}{'ratio':>8}{'aim':>6}" + ("  of the matrix rate" if rate else ""))
    for name, found in seconds.items():
        middle = statistics.median(found)
        aim = 3.0 if options.device == "cuda" and name != "reference" else AIMS.get(name, "")
        line = f"{name:36}{middle:10.3f}{options.batch / middle:10.1f}{base / middle:8.2f}{aim:>6}"
        if rate:
            units = forward_units(5, reference=name == "reference")
            line += f"{2 * MACS * units * options.batch / middle / rate:20.1%}"
        print(line)
    for name in settings:
        print_where_time_goes(name, steps[name])


def print_where_time_goes(name: str, step: Callable[[], object]) -> None:
    """Print the operations that a step spends most of its own time in."""
    on_gpu = torch.cuda.is_available()
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=kinds) as seen:
        step()
    times = {op.key: op.self_device_time_total if on_gpu else op.self_cpu_time_total for op in seen.key_averages()}
    whole = sum(times.values())
    most = sorted(times.items(), key=lambda item: -item[1])[:4]
    told = ", ".join(f"{op.removeprefix('aten::')} {spent / 1e6:.2f} s ({spent / whole:.0%})" for op, spent in most)
    print(f"{name}: {told}")


@contextmanager
def attacks_kept() -> Iterator[list]:
    """Have `pretrain` note the views and (base, start, end) of each attack while the ``with`` lasts."""
    kept, pgd, make_views = [], pretrain.pgd, pretrain.make_views

    def noting(loss: Callable, images: torch.Tensor, threat: adv.Linf, *, generator: torch.Generator) -> torch.Tensor:
        twin = torch.Generator().set_state(generator.get_state())
        begin = pgd(loss, images, replace(threat, steps=0), generator=twin)
        kept.append((images, begin, pgd(loss, images, threat, generator=generator)))
        return kept[-1][2]

    def noting_views(images: torch.Tensor, draw: adv.ViewDraw) -> adv.Views:
        kept.append(make_views(images, draw))
        return kept[-1]

    pretrain.pgd, pretrain.make_views = noting, noting_views
    try:
        yield kept
    finally:
        pretrain.pgd, pretrain.make_views = pgd, make_views


def print_differences(state: adv.PretrainState, kept: list, constants: Release, labels: torch.Tensor) -> None:
    """Make the state's first step again by the reference, from the same weights, views and starts, and compare."""
    model = start({}, labels.device).model
    views, (base, first, x_cl), (_, second, x_ce) = kept
    clean = (views.view1, views.view2, views.high)
    optimizer = make_optimizer(model, constants)
    truth = release_step(model, base, (first, second), clean, labels, constants=constants, optimizer=optimizer)
    equal = torch.equal(truth.x_cl, x_cl), torch.equal(truth.x_ce, x_ce)
    print(f"adversarial images bit-identical: contrastive {equal[0]}, pseudo-label {equal[1]}")
    ours, theirs = state.model.state_dict(), model.state_dict()
    names = [name for name in ours if name.startswith("encoder.") and "running" in name]
    worst = max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in names)
    print(f"running statistics of the encoder after the step differ by at most {worst:.1e} of their length")


def matrix_rate() -> float:
    """Return the card's bfloat16 floating-point operations a second, measured on large square matrices."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    rate = 2 * 8192**3 / statistics.median(seconds)
    print(f"measured bfloat16 matrix rate: {rate / 1e12:.0f} TFLOP/s")
    return rate


def time_views(options: argparse.Namespace) -> None:
    """Compare the augmentation with torchvision's image by image, and the filter with the mask loop, on one thread."""
    torch.set_num_threads(1)
    images, labels = some_images(256, "cpu")
    settings, data, x = adv.ViewSettings(), ReleaseImages(images, labels), adv.to_float(images)
    torch.zeros(8_000_000)  # 32 MB freed, as in any training step: from then on malloc keeps what smaller tensors free

    def ours() -> None:
        draw = adv.draw_views(len(images), 32, 32, settings, generator=adv.Streams(0)("views"))
        adv.make_views(adv.to_float(images), draw)

    pairs = {
        "augmentation": (lambda: [data[k] for k in range(len(images))], ours, 6.0),
        "high_pass": (lambda: high_pass(x, 8.0), lambda: adv.high_pass(x, 8.0), 3.0),
    }
    for name, (theirs, ours, aim) in pairs.items():
        seconds = alternate({"theirs": theirs, "ours": ours}, 2 * options.rounds)
        old, new = (1e6 * statistics.median(seconds[which]) / len(images) for which in ("theirs", "ours"))
        print(f"{name:14} {old:8.0f} against {new:6.0f} microseconds an image: {old / new:5.1f} times, aim {aim:g}")
    torch.set_num_threads(options.threads)


def measure_memory(options: argparse.Namespace) -> None:
    """Print the peak of host memory that a training takes beyond torch itself, in a process of its own."""
    for batch in (32, 64, 128):
        done = subprocess.run(
            [sys.executable, __file__, "--peak", str(batch)], capture_output=True, text=True, check=True
        )
        torch_alone, peak = map(float, done.stdout.split())
        print(f"batch {batch:4}: {peak - torch_alone:5.2f} GB over the {torch_alone:.2f} GB of torch imported")


def print_peak(batch: int) -> None:
    """Print this process's peak before and after two float32 steps on 50,000 images, in GB."""
    before = peak()
    images, labels = some_images(50_000, "cpu")
    state = start({}, "cpu")
    for step in range(2):
        chosen = slice(step * batch, (step + 1) * batch)
        adv.pretrain_step(state, images[chosen], labels[chosen])
    print(before, peak())


def peak() -> float:
    """Return the most memory that this process has held, in GB; getrusage would count its parent's before the start."""
    status = Path("/proc/self/status")
    if status.is_file():
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


PARTS = {"step": time_steps, "views": time_views, "memory": measure_memory, "scaling": measure_scaling}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print_peak(int(sys.argv[2]))
    else:
        main()
