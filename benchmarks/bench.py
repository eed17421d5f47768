"""Time AdvCL's training engine beside the release's schedule, in one run, alternating. `make bench` runs it whole.

    python benchmarks/bench.py [step] [views] [memory] [scaling] [--rounds 5] [--device cuda] [--threads 2]

step: a step of ResNet-18 as the release schedules it (reference.py) and ours, in float32, with channels_last, and in
bfloat16; images and weights are the same, and in the first round so are the attacks' starts, so that the adversarial
images can be compared. On a GPU also compiled, with the share of the card's measured bfloat16 matrix rate. views: the
augmentation and the high-pass filter, on one thread. memory: the peak of a training process over that of one that has
imported torch. scaling: seconds against width, batch and attack steps; writes benchmarks/scaling.png.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from reference import Release, ReleaseImages, high_pass, release_step
from torch.utils.data import DataLoader

import advcl_nb as adv
from advcl_nb import pretrain

SETTINGS = {
    "float32": {},
    "float32, channels_last": {"channels_last": True},
    "bfloat16, channels_last": {"channels_last": True, "precision": "bfloat16"},
}
COMPILED = {"bfloat16, channels_last, compiled": SETTINGS["bfloat16, channels_last"] | {"compile": True}}
AIMS = {"float32": 1.35, "float32, channels_last": 1.7, "bfloat16, channels_last": 3.5}  # on two CPU cores
MACS = 555.4e6  # of a forward of the paper's network for an image of 32x32 pixels


def forward_units(steps: int, *, reference: bool) -> int:
    """Forwards of an image that a step costs, a backward to the image counting one and a full one two.

    The reference encodes five views `steps` + 1 times; ours the three clean ones once. Both take two gradients to
    images a step, and end with a full backward of five views.
    """
    return (5 * (steps + 1) if reference else 3 + 2 * steps + 2) + 2 * steps + 10


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
    print(f"{adv.cards.hardware()}, torch {torch.__version__}, {options.threads} threads, batch {options.batch}")
    for part in options.parts:
        print(f"\n{part}")
        PARTS[part](options)


def time_steps(options: argparse.Namespace) -> None:
    """Alternate a step of the reference and one of each setting; print medians, ratios, and what is the same."""
    images, labels = some_images(options.batch, options.device)
    settings = SETTINGS | (COMPILED if options.device == "cuda" else {})
    states = {name: start(changes, options.device) for name, changes in settings.items()}
    reference = Reference(start({}, options.device), images, labels, workers=8 if options.device == "cuda" else 0)
    kept = keep_attacks()
    for name, state in states.items():  # a round before the clock, in which compilers and allocators warm up
        adv.pretrain_step(state, images, labels)
        if name == "float32":
            print_differences(state, kept, reference, labels)
    reference.step()
    steps = {"reference": reference.step}
    steps |= {name: step_of(state, images, labels) for name, state in states.items()}
    seconds = alternate(steps, options)
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


def some_images(n: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n uint8 images of 32x32 pixels and their pseudo-labels; what they show does not matter here."""
    images = adv.shapes(n, size=32)
    labels = torch.stack([images.y % count for count in adv.preset("paper").model.cluster_counts], 1)
    return images.x.to(device), labels.to(device)


def start(changes: Mapping[str, object], device: str) -> adv.PretrainState:
    config = adv.preset("paper")
    config = replace(config, pretrain=replace(config.pretrain, learning_rate=0.01, **changes))
    return adv.PretrainState.start(config, device=device)


def step_of(state: adv.PretrainState, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    return lambda: adv.pretrain_step(state, images, labels)


class Reference:
    """The reference's model, optimiser and loader; `step` is one update, with its images made by the loader."""

    def __init__(self, state: adv.PretrainState, images: torch.Tensor, labels: torch.Tensor, *, workers: int) -> None:
        self.model, self.device, self.workers = state.model, images.device, workers
        self.constants = Release(learning_rate=state.settings.learning_rate)
        options = {"lr": self.constants.learning_rate, "momentum": 0.9, "weight_decay": 1e-4}
        self.optimizer = torch.optim.SGD(self.model.parameters(), **options)
        self.images = ReleaseImages(
            images.cpu().repeat(max(workers, 1), 1, 1, 1), labels.cpu().repeat(max(workers, 1), 1)
        )
        self.batches = self.endless(len(images))

    def endless(self, size: int) -> Iterator[list[torch.Tensor]]:
        loader = DataLoader(
            self.images, size, shuffle=True, num_workers=self.workers, persistent_workers=self.workers > 0
        )
        while True:
            yield from loader

    def step(self) -> None:
        view1, view2, base, labels = (part.to(self.device, non_blocking=True) for part in next(self.batches))
        noise = [(2 * torch.rand_like(base) - 1) * self.constants.epsilon for _ in range(2)]
        clean = (view1, view2, high_pass(base, self.constants.radius))
        starts = (base + noise[0], base + noise[1])
        release_step(self.model, base, starts, clean, labels, constants=self.constants, optimizer=self.optimizer)


def keep_attacks() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Have `pretrain` note (base, start, end) of its attacks and its views from now on; returns the list."""
    kept, pgd, make_views = [], pretrain.pgd, pretrain.make_views

    def noting(loss: Callable, images: torch.Tensor, threat: adv.Linf, *, generator: torch.Generator) -> torch.Tensor:
        twin = torch.Generator().set_state(generator.get_state())
        begin = pgd(loss, images, replace(threat, steps=0), generator=twin)
        kept.append((images, begin, pgd(loss, images, threat, generator=generator)))
        return kept[-1][2]

    def noting_views(images: torch.Tensor, draw: adv.ViewDraw) -> adv.Views:
        kept.clear()
        kept.append(make_views(images, draw))
        return kept[0]

    pretrain.pgd, pretrain.make_views = noting, noting_views
    return kept


def print_differences(state: adv.PretrainState, kept: list, reference: Reference, labels: torch.Tensor) -> None:
    """Repeat ours of the first round by the reference, from the same weights, views and starts, and compare."""
    model, views, (base, *begin), other = start({}, reference.device).model, kept[0], kept[1], kept[2]
    optimizer = torch.optim.SGD(model.parameters(), reference.constants.learning_rate, 0.9, weight_decay=1e-4)
    clean = (views.view1, views.view2, views.high)
    truth = release_step(
        model, base, (begin[0], other[1]), clean, labels, constants=reference.constants, optimizer=optimizer
    )
    equal = torch.equal(truth.x_cl, begin[1]), torch.equal(truth.x_ce, other[2])
    print(f"adversarial images bit-identical: contrastive {equal[0]}, pseudo-label {equal[1]}")
    ours, theirs = state.model.state_dict(), model.state_dict()
    names = [name for name in ours if name.startswith("encoder.") and "running" in name]
    worst = max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in names)
    print(f"running statistics of the encoder after the step differ by at most {worst:.1e} of their length")


def alternate(steps: Mapping[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Run each in turn, `rounds` times; return the seconds of each."""
    seconds = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if options.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


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

    def ours() -> None:
        draw = adv.draw_views(len(images), 32, 32, settings, generator=adv.Streams(0)("views"))
        adv.make_views(adv.to_float(images), draw)

    pairs = {
        "augmentation": (lambda: [data[k] for k in range(len(images))], ours, 6.0),
        "high_pass": (lambda: high_pass(x, 8.0), lambda: adv.high_pass(x, 8.0), 3.0),
    }
    for name, (theirs, ours, aim) in pairs.items():
        seconds = alternate(
            {"theirs": theirs, "ours": ours}, argparse.Namespace(rounds=2 * options.rounds, device="cpu")
        )
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


SWEEPS = {
    "width": (8, 16, 32, 64), "batch": (32, 64, 128, 256), "attack steps": (1, 2, 5, 10),
    "images": (512, 1024, 2048, 4096),
}  # fmt: skip


def measure_scaling(options: argparse.Namespace) -> None:
    """Time the `cifar` preset's network against each of `SWEEPS`, and draw it beside the cost model."""
    from matplotlib.figure import Figure

    figure = Figure((12, 3), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, 4), SWEEPS.items(), strict=True):
        seconds = [sweep_step(name, value, options) for value in values]
        model = [modelled(name, value) for value in values]
        factor = seconds[-1] / model[-1]  # where overhead counts least
        axes.loglog(values, seconds, "o-", label="measured")
        axes.loglog(values, [factor * cost for cost in model], "--", color="grey", label="cost model")
        axes.set(xlabel=name, ylabel="seconds an epoch" if name == "images" else "seconds a step")
        axes.minorticks_off()
        axes.set_xticks(values, map(str, values))
        ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if min(seconds) / 2 < tick < 2 * max(seconds)]
        axes.set_yticks(ticks, map(str, ticks))
        print(
            f"{name:14}" + "".join(f"{value:>6}: {found:7.3f} s" for value, found in zip(values, seconds, strict=True))
        )
    axes.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("scaling.png"), dpi=80)


def sweep_step(name: str, value: int, options: argparse.Namespace) -> float:
    """Return the median seconds of a step with one setting changed."""
    config = adv.preset("cifar")
    width = value if name == "width" else config.model.width
    steps = value if name == "attack steps" else 2
    threat = replace(config.pretrain.attack, steps=steps)
    config = replace(config, model=replace(config.model, width=width), pretrain=replace(config.pretrain, attack=threat))
    config = replace(config, pretrain=replace(config.pretrain, epochs=1, batch_size=128))
    state = adv.PretrainState.start(config, device=options.device)
    images, _ = some_images(value if name in ("batch", "images") else 128, options.device)
    labels = torch.zeros(len(images), len(config.model.cluster_counts), dtype=torch.int64, device=options.device)
    if name == "images":
        return list(adv.pretrain_epochs(state, images, labels))[-1]["seconds"]
    step = step_of(state, images, labels)
    step()
    return statistics.median(alternate({"ours": step}, options)["ours"])


def modelled(name: str, value: int) -> float:
    """Return what the step should cost, up to a factor: quadratic in width, linear in batch and forward units."""
    return value**2 if name == "width" else forward_units(value, reference=False) if "steps" in name else value


PARTS = {"step": time_steps, "views": time_views, "memory": measure_memory, "scaling": measure_scaling}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print_peak(int(sys.argv[2]))
    else:
        main()
