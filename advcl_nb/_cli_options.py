"""Command-line options made from dataclasses: types, defaults and parsing by tyro, help from the docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from fractions import Fraction
from typing import get_type_hints

from tyro import cli, constructors, extras

from advcl_nb._check import require_one_of
from advcl_nb.attacks import L2, Linf

NORMS = {"Linf": Linf, "L2": L2}
PLAIN = {  # help for what the docstrings leave out, because its name says nearly all
    "preset": "where the defaults come from: smoke, teach, cifar, budget or paper ($ADVCL_PRESET, else teach)",
    "device": "where to compute: cpu, cuda, cuda:1, ...",
    "download": "fetch a data set that is missing",
    "json": "print the result as one JSON object, the last line; all else goes to standard error",
    "method": "simclr, rocl, acl or advcl",
    "epochs": "how often to go through the images",
    "batch_size": "images in a step",
    "optimizer": "sgd, nesterov (SGD with Nesterov's momentum) or adamw",
    "learning_rate": "the highest rate",
    "momentum": "of sgd and nesterov",
    "weight_decay": "on every parameter",
    "warmup_epochs": "epochs in which the rate rises",
    "warmup_from": "the rate that it rises from",
    "final_ratio": "share of the learning rate at which its cosine ends",
    "temperature": "of the contrastive loss",
    "protocol": "SLF, ALF, AFF, CE, SupCon, Core or AdvCore",
    "milestones": "epochs, from 0, at which the rate falls",
    "decay": "factor of the rate at a milestone",
    "beta": "weight of TRADES' divergence",
    "eta": "weight of the contrastive loss in SupCon, Core and AdvCore",
    "mixing": "part of Core-tuning: mix hard pairs",
    "hard_pairs": "part of Core-tuning: hard pairs, else random ones",
    "focal": "part of Core-tuning: weights in the contrastive loss, else 1",
    "smooth_classifier": "part of Core-tuning: classify mixed rows too",
    "seed": "of all random numbers",
    "attack": "what attacks the images",
    "views": "how strong the views are",
    "data": "which images",
    "model": "shape of the network",
}


class WrongUsage(Exception):
    """Options that mean nothing; the message says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Threat:
    """The ball and the attack in it, as options: what makes a `Linf` or an `L2`.

    norm: Linf or L2. epsilon: radius of the ball; for Linf in units of [0, 1], so 8 grey levels are 8/255. alpha: size
    of a step. steps: how many. start: uniform in the ball, gaussian (TRADES) or none.
    """

    norm: str
    epsilon: float
    alpha: float
    steps: int
    start: str

    @classmethod
    def of(cls, attack: Linf | L2) -> Threat:
        """Return an attack as options."""
        return cls(type(attack).__name__, **asdict(attack))


def make_threat(norm: str, epsilon: float, alpha: float, steps: int, start: str) -> Linf | L2:
    """Make the attack that the options name."""
    require_one_of(norm, "norm", tuple(NORMS))
    return NORMS[norm](epsilon, alpha, steps, start)


def parse(prog: str, description: str, commands: Mapping[str, object], args: Sequence[str]) -> object:
    """Return the command that `args` choose among `commands`, whose instances here are the defaults.

    Prints the help and exits with 0 where it is asked for; wrong usage prints a message and exits with 2.
    """
    registry = constructors.ConstructorRegistry()
    registry.struct_rule(struct_of)
    for kind, name, read in ((int, "a whole number", int), (float, "a number or a fraction such as 8/255", fraction)):
        registry.primitive_rule(number_rule(kind, name, read))
    summaries = {name: summary(type(command)) for name, command in commands.items()}
    kinds = extras.subcommand_type_from_defaults(commands, summaries, prefix_names=False)
    return cli(kinds, prog=prog, description=description, args=args, registry=registry)


def struct_of(info: constructors.StructTypeInfo) -> constructors.StructConstructorSpec | None:
    """Tell tyro the fields of a dataclass of ours, with defaults from an instance and help from the docstring."""
    if not (is_dataclass(info.type) and info.type.__module__.startswith("advcl_nb.")):
        return None
    hints, told = get_type_hints(info.type, include_extras=True), helps(info.type)
    spec = []
    for name in hints:
        kind, default = hints[name], getattr(info.default, name, constructors.MISSING_NONPROP)
        if kind == Linf | L2:
            kind, default = Threat, Threat.of(default)
        spec.append(constructors.StructFieldSpec(name, kind, default, told.get(name, "")))
    return constructors.StructConstructorSpec(lambda **values: make(info.type, values), tuple(spec))


def make(kind: type, values: Mapping) -> object:
    """Make what the options of a dataclass stand for; a value that it refuses is wrong usage, in its own words."""
    try:
        return make_threat(**values) if kind is Threat else kind(**values)
    except ValueError as error:  # tyro would put it in a frame, with names of its own before it
        raise WrongUsage(str(error)) from error


def number_rule(kind: type, name: str, read: Callable[[str], float]) -> Callable:
    """Return tyro's rule for numbers of a type: how to read one, how to write one, what to say of what is none."""

    def convert(words: list[str]) -> float:
        try:
            return read(words[0])
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"expected {name}, got {words[0]!r}.") from error

    def rule(info: constructors.PrimitiveTypeInfo) -> constructors.PrimitiveConstructorSpec | None:
        if info.type is not kind:
            return None
        fits = lambda value: isinstance(value, kind | int) and not isinstance(value, bool)  # noqa: E731
        return constructors.PrimitiveConstructorSpec(1, kind.__name__.upper(), convert, fits, lambda v: [written(v)])

    return rule


def fraction(text: str) -> float:
    """Read "0.03", "1e-3", "8/255" or "8 / 255"; as exact as Python's own 8 / 255."""
    return float(Fraction(text.replace(" ", "")))


def written(value: float) -> str:
    """Write a number so that it reads back the same: a long one as a fraction where a short fraction equals it."""
    short = Fraction(value).limit_denominator(1000)
    return str(short) if len(repr(value)) > 8 and float(short) == value else repr(value)


def helps(kind: type) -> dict[str, str]:
    """Cut a docstring's "name: what it is. other, another: what they are." into a text for each field."""
    names = [f.name for f in fields(kind)]
    one = f"(?:{'|'.join(names)})"
    head = re.compile(rf"(?:^|(?<=[.;)]\s))({one}(?:, {one})*): ")
    found = {name: PLAIN[name] for name in names if name in PLAIN}
    for paragraph in (kind.__doc__ or "").split("\n\n"):
        _, *parts = head.split(" ".join(paragraph.split()))
        for heads, text in zip(parts[::2], parts[1::2], strict=True):
            found |= dict.fromkeys(heads.split(", "), text.strip().rstrip(".;"))
    return found


def summary(kind: type) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
