"""Print the README's results as a table made from the cards; with --write, put it into the README.

python tools/results.py [--write]
"""

import argparse
from collections import defaultdict
from pathlib import Path

import advcl_nb as adv

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- results: begin, made by tools/results.py from data/results -->", "<!-- results: end -->"
HEADER = """| data | encoder | protocol | SA % | PGD-20 at 8/255 % | test images | AutoAttack %, PGD-20 there (images) |
|---|---|---|---|---|---|---|"""
PROTOCOLS = ("SLF", "ALF", "AFF", "CE", "SupCon", "Core", "AdvCore")


CHECKED = ", AutoAttack and report: "  # between the encoder and the finding, in the note of such a card
CHECKED_HEADER = """
| data | encoder, SLF | SA % | PGD-20 % | worst case of the report % | AutoAttack % | signs of gradient masking |
|---|---|---|---|---|---|---|"""


def is_ablation(card: adv.Card) -> bool:
    """Whether the card's title names a changed setting: notebooks 04b and 07 have these."""
    return "=" in card.title


def tables(cards: adv.Cards) -> str:
    """What stands in the README."""
    return table(cards) + "\n" + checked_table(cards)


def table(cards: adv.Cards) -> str:
    """A row per data set, encoder and protocol, with a value per seed."""
    groups = defaultdict(list)
    for card in cards:
        if is_ablation(card) or CHECKED in card.note:
            continue
        data = f"{card.data} to {card.transfer_to}" if card.transfer_to else card.data
        groups[card.data == "shapes", data, card.title, PROTOCOLS.index(card.protocol)].append(card)
    rows = [HEADER]
    for (_, data, note, protocol), group in sorted(groups.items()):
        group = sorted(group, key=lambda card: card.settings.finetune[card.protocol].seed)
        accuracies = [" / ".join(f"{100 * card.scored[k].value:.1f}" for card in group) for k in range(2)]
        name = f"{data} (made up)" if data == "shapes" else data
        told = [*accuracies, str(group[0].scored[0].n), " / ".join(filter(None, map(attacked, group)))]
        rows.append(f"| {name} | {note} | {PROTOCOLS[protocol]} | {' | '.join(told)} |")
    return "\n".join(rows)


def attacked(card: adv.Card) -> str:
    """AutoAttack's score and that of PGD-20 on the same images, where the card has them."""
    known = {(score.metric, score.n): f"{100 * score.value:.1f}" for score in card.scored}
    return " / ".join(f"{known[metric, n]}, {known.get(('RA', n), '-')} ({n})" for metric, n in known if metric == "AA")


def checked_table(cards: adv.Cards) -> str:
    """A row for each encoder that was scored by AutoAttack and the report, with the number of images in brackets."""
    rows = [CHECKED_HEADER]
    for card in sorted(cards, key=lambda card: (card.data == "shapes", card.note)):
        if CHECKED in card.note:
            encoder, found = card.note.split(": python ")[0].split(CHECKED)
            data = "shapes (made up)" if card.data == "shapes" else card.data
            scores = [score_of(card, start) for start in (None, "PGD-20", "worst", "AutoAttack")]
            values = [f"{100 * score.value:.1f} ({score.n})" for score in scores]
            rows.append(f"| {data} | {encoder} | {' | '.join(values)} | {found} |")
    return "\n".join(rows) if len(rows) > 1 else ""


def score_of(card: adv.Card, start: str | None) -> adv.Score:
    """The card's first score whose attack starts so; None: without attack."""
    if start is None:
        return next(score for score in card.scored if score.metric == "SA")
    return next(score for score in card.scored if score.attack and score.attack.startswith(start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    cards = adv.read_cards()
    text = tables(cards)
    print(text)
    if parser.parse_args().write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
