"""Published accuracies, each with where it was read, and a table that sets the cards beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from advcl_nb._check import require, require_is
from advcl_nb.cards import Card
from advcl_nb.claims import scores_of

ROBUSTSSL = "RobustSSL leaderboard (robustssl.github.io), plain fine-tuning; AdvCL's encoder is of its own pretraining"
QUOTED = "quoted as the paper's in LijieFan/AdvCL issue 6"
README = "Core-tuning's README: 94.70 ± 0.39 and 97.31 ± 0.10; ResNet-50, MoCo v2 on ImageNet"
ADVCL = "AdvCL with the authors' pseudo-labels (ImageNet)"  # as our cards call what the papers call AdvCL
ADVCL_100 = "AdvCL with ImageNet's pseudo-labels"  # for CIFAR-100 the authors published none


class Published(NamedTuple):
    """Accuracies in percent as somebody published them; None where they did not. RA is under PGD-20 at 8/255."""

    encoder: str
    protocol: str
    data: str
    SA: float
    RA: float | None
    AA: float | None
    source: str


PUBLISHED = (
    Published(ADVCL, "SLF", "cifar10", 80.85, 50.45, None, QUOTED),
    Published(ADVCL, "SLF", "cifar10", 82.36, None, 43.18, ROBUSTSSL),
    Published(ADVCL, "ALF", "cifar10", 80.04, None, 44.05, ROBUSTSSL),
    Published(ADVCL, "AFF", "cifar10", 83.00, None, 49.61, ROBUSTSSL),
    Published("ACL", "SLF", "cifar10", 78.22, None, 39.17, ROBUSTSSL),
    Published("ACL", "ALF", "cifar10", 75.53, None, 40.60, ROBUSTSSL),
    Published("ACL", "AFF", "cifar10", 81.25, None, 49.60, ROBUSTSSL),
    Published("RoCL", "SLF", "cifar10", 77.90, None, 26.12, ROBUSTSSL),
    Published("RoCL", "ALF", "cifar10", 75.62, None, 29.69, ROBUSTSSL),
    Published("RoCL", "AFF", "cifar10", 78.51, None, 45.02, ROBUSTSSL),
    Published(ADVCL_100, "SLF", "cifar100", 44.60, None, 19.10, ROBUSTSSL),
    Published(ADVCL_100, "ALF", "cifar100", 39.85, None, 18.19, ROBUSTSSL),
    Published(ADVCL_100, "AFF", "cifar100", 58.29, None, 25.26, ROBUSTSSL),
    Published("ACL", "SLF", "cifar100", 45.82, None, 17.30, ROBUSTSSL),
    Published("ACL", "ALF", "cifar100", 43.49, None, 19.07, ROBUSTSSL),
    Published("ACL", "AFF", "cifar100", 57.74, None, 24.78, ROBUSTSSL),
    Published("RoCL", "SLF", "cifar100", 42.93, None, 8.72, ROBUSTSSL),
    Published("MoCo v2", "CE", "cifar10", 94.70, None, None, README),
    Published("MoCo v2", "Core", "cifar10", 97.31, None, None, README),
)


class Table(str):
    """Markdown that a notebook shows as a table."""

    def _repr_markdown_(self) -> str:
        return str(self)


def published_table(
    cards: Sequence[Card], encoders: Sequence[str], protocols: Sequence[str], *, data: str = "cifar10"
) -> Table:
    """Return the cards' scores in percent, the mean over seeds, beside every published row of the same kind.

    Ours bear the 95% interval where one seed stands behind them, else the seeds' range. Sources stand below.
    """
    for card in cards:
        require_is(card, "cards", Card, "Take adv.read_cards().")
    require(len(encoders) > 0 and len(protocols) > 0, "encoders", "one or more, and protocols", list(encoders))
    lines = ["| encoder | tuning | ours: SA | PGD-20 | AA | published: SA | PGD-20 | AA | source |", "|---" * 9 + "|"]
    sources: list[str] = []
    for encoder in encoders:
        for protocol in protocols:
            ours = [_told(cards, encoder, protocol, metric, data) for metric in ("SA", "RA", "AA")]
            rows = [row for row in PUBLISHED if (row.encoder, row.protocol, row.data) == (encoder, protocol, data)]
            for row in rows or [None]:
                theirs, number = ["", "", ""], ""
                if row is not None:
                    sources += [row.source] if row.source not in sources else []
                    number = f"[{sources.index(row.source) + 1}]"
                    theirs = ["" if value is None else f"{value:.2f}" for value in (row.SA, row.RA, row.AA)]
                lines.append("| " + " | ".join([encoder, protocol, *ours, *theirs, number]) + " |")
    listed = "\n".join(f"[{number}] {source}  " for number, source in enumerate(sources, start=1))
    return Table("\n".join(lines) + "\n\n" + listed)


def _told(cards: Sequence[Card], encoder: str, protocol: str, metric: str, data: str) -> str:
    wanted = encoder, protocol, data, None
    cards = [card for card in cards if (card.title, card.protocol, card.data, card.transfer_to) == wanted]
    if not any(score.metric == metric for card in cards for score in card.scored):
        return "-"
    found = scores_of(cards, encoder, protocol, metric, data=data)
    scores, encoders = list(found.values()), len({seed for seed, _ in found})
    values = [score.value for score in scores]
    low, high = (scores[0].low, scores[0].high) if len(scores) == 1 else (min(values), max(values))
    seeds = "" if len(scores) == 1 else f", {len(scores)} {'seeds' if len(scores) == encoders else 'tunings'}"
    return f"{100 * sum(values) / len(values):.1f} ({100 * low:.1f}-{100 * high:.1f}{seeds})"
