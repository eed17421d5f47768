"""The README's numbers are those of the cards."""

import dataclasses
import sys
from pathlib import Path

import pytest

import advcl_nb as adv
from advcl_nb import _saved
from advcl_nb.cards import score_fields

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import results  # noqa: E402

CARDS = adv.read_cards(ROOT / "data" / "results")


def test_the_readme_holds_the_table_of_the_committed_cards():
    between = (ROOT / "README.md").read_text().split(results.BEGIN)[1].split(results.END)[0]
    assert between.strip() == results.tables(CARDS).strip(), "run `python tools/results.py --write`"


@pytest.mark.skipif(not CARDS, reason="no cards are committed")
def test_every_score_of_a_card_stands_in_the_table():
    table = results.table(CARDS)
    for card in CARDS:
        if results.is_ablation(card) or results.CHECKED in card.note:
            continue
        name = f"| {card.title} | {card.protocol} |"
        data = f"{card.data} to {card.transfer_to} |" if card.transfer_to else f"| {card.data} "
        row = next(row for row in table.splitlines() if name in row and data in row)
        assert all(f"{100 * score['value']:.1f}" in row for score in card.scores)


def test_every_checked_card_has_a_row_with_autoattack_and_the_worst_case():
    made = dataclasses.replace(CARDS[0], note="A, AutoAttack and report: 2 signs: python x", scores=[
        score_fields(adv.Score("AA", 3, 10, "AutoAttack, Linf 8/255")), score_fields(adv.Score("SA", 9, 10)),
        score_fields(adv.Score("RA", 5, 10, "PGD-20, 8/255")), score_fields(adv.Score("RA", 2, 9, "worst case, 8/255")),
    ])  # fmt: skip
    for card in [made, *(card for card in CARDS if results.CHECKED in card.note)]:
        encoder, found = card.note.split(": python ")[0].split(results.CHECKED)
        rows = results.checked_table([made, *CARDS]).splitlines()
        (row,) = (row for row in rows if f"| {encoder} | " in row and card.data in row)
        wanted = [score for score in card.scored if score.metric == "AA" or "worst case" in (score.attack or "")]
        assert len(wanted) == 2 and all(f" {100 * score.value:.1f} ({score.n}) " in row for score in wanted)
        assert row.endswith(f"| {found} |")
    assert results.checked_table([]) == ""


def test_autoattack_stands_beside_pgd_on_the_same_images_alone():
    scores = [
        adv.Score("SA", 9, 10),
        adv.Score("RA", 5, 10, "P"),
        adv.Score("AA", 1, 4, "A"),
        adv.Score("RA", 2, 4, "P"),
    ]
    card = dataclasses.replace(CARDS[0], scores=[score_fields(score) for score in scores])
    assert results.attacked(card) == "25.0, 50.0 (4)"
    assert results.attacked(dataclasses.replace(card, scores=card.scores[:2])) == ""


def smallest(cards):
    """The robust card, after SLF, whose encoder and head are the fewest bytes."""
    folder = ROOT / "data" / "checkpoints"
    able = [c for c in cards if c.head and c.checkpoint and (c.protocol, c.transfer_to) == ("SLF", None)]
    robust = [card for card in able if card.scored[1].value > 0.05]  # nothing to see where nothing is left
    return min(robust, key=lambda card: sum((folder / f["file"]).stat().st_size for f in (card.checkpoint, card.head)))


@pytest.mark.cifar
@pytest.mark.parametrize("data", ["cifar10", "shapes"])
def test_the_smallest_committed_classifier_scores_as_its_card_says(data):
    card = smallest([card for card in CARDS if card.data == data])
    try:
        _, test = adv.load_data(card.settings.data)
    except FileNotFoundError:
        pytest.skip(f"{data} is not here")
    model, some = adv.load_classifier(card), test[:200]
    threat, generator = adv.Linf(8 / 255, 2 / 255, 20), adv.Streams(7)("eval")
    again = [
        adv.standard_accuracy(model, some.x, some.y),
        adv.robust_accuracy(model, some.x, some.y, threat, generator=generator),
    ]
    for was, now in zip(card.scored, again, strict=False):
        assert (was.metric, was.attack) == (now.metric, now.attack)
        assert now.low <= was.high and was.low <= now.high, f"{card.note}: the card has {was}, now {now}"


def test_committed_weights_stay_small():
    files = list((ROOT / "data" / "checkpoints").glob("*.pt"))
    assert 0 < sum(file.stat().st_size for file in files) < 30e6
    named = {f["file"] for card in CARDS for f in (card.checkpoint, card.head) if f}
    unused = {file.name for file in files} - named - {encoder_of(file) for file in files if "-head" in file.name}
    assert not unused, "every committed file belongs to a card"


def encoder_of(head):
    return _saved.read_file(head)["encoder"]["file"]
