"""The README's numbers are those of the cards."""

import sys
from pathlib import Path

import pytest

import advcl_nb as adv

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import results  # noqa: E402

CARDS = adv.read_cards(ROOT / "data" / "results")


def test_the_readme_holds_the_table_of_the_committed_cards():
    between = (ROOT / "README.md").read_text().split(results.BEGIN)[1].split(results.END)[0]
    assert between.strip() == results.table(CARDS).strip(), "run `python tools/results.py --write`"


@pytest.mark.skipif(not CARDS, reason="no cards are committed")
def test_every_score_of_a_card_stands_in_the_table():
    table = results.table(CARDS)
    for card in CARDS:
        if results.is_ablation(card):
            continue
        name = f"| {card.note} | {card.protocol} |"
        data = f"{card.data} to {card.transfer_to} |" if card.transfer_to else f"| {card.data} "
        row = next(row for row in table.splitlines() if name in row and data in row)
        assert all(f"{100 * score['value']:.1f}" in row for score in card.scores)
