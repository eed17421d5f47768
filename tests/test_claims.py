"""Claims weighed by cards: effects with intervals, seeds, time to a goal, and the table beside the published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

import advcl_nb as adv
from advcl_nb import claims
from advcl_nb.published import ADVCL

CARDS = adv.read_cards(Path(__file__).resolve().parent.parent / "data" / "results")
CARD = next(card for card in CARDS if card.protocol == "SLF" and card.data == "cifar10")


def score(correct, n=1000, metric="SA", attack=None):
    return adv.Score(metric, correct, n, attack)


def card(seed=0, tuning_seed=0, scores=None, **changes):
    scores = [score(500)] if scores is None else scores
    made = replace(CARD, note="E", transfer_to=None, curve=(), scores=[adv.cards.score_fields(s) for s in scores])
    finetune = dict(made.config["finetune"])
    finetune["SLF"] = finetune["SLF"] | {"seed": tuning_seed}
    return replace(made, seed=seed, config=dict(made.config) | {"finetune": finetune}, **changes)


# effects


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),  # Newcombe 1998, table II, method 10
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ],
)
def test_one_seed_has_newcombes_interval(a, b, low, high):
    found = adv.effect({0: score(*a)}, {0: score(*b)})
    assert found.value == pytest.approx(a[0] / a[1] - b[0] / b[1])
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert (found.encoders, found.pairs, found.behind) == (1, 1, "1 seed")


def test_an_effect_turned_round_changes_its_sign():
    there, back = (
        adv.effect(*pair) for pair in (({0: score(430)}, {0: score(390)}), ({0: score(390)}, {0: score(430)}))
    )
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_the_doubts_of_seeds_and_of_images_add_in_quadrature():
    ours, others = ({k: score(c) for k, c in enumerate(row)} for row in ((600, 520, 700), (500, 510, 480)))
    found = adv.effect(ours, others)
    student = stats.ttest_1samp([0.1, 0.01, 0.22], 0).confidence_interval(0.95)
    images = [adv.effect({0: ours[k]}, {0: others[k]}) for k in ours]
    below = sum(e.value - e.low for e in images) / 3
    assert found.value == pytest.approx(0.11)
    assert (found.value - found.low) ** 2 == pytest.approx(below**2 + (0.11 - student.low) ** 2, rel=1e-4)
    alike = adv.effect(dict.fromkeys(range(3), score(600)), dict.fromkeys(range(3), score(500)))
    assert alike[:3] == pytest.approx(adv.effect({0: score(600)}, {0: score(500)})[:3])
    assert (alike.encoders, alike.pairs, alike.behind) == (3, 3, "3 seeds")


def test_tunings_of_one_encoder_are_not_taken_for_encoders():
    found = adv.effect({(0, k): score(600) for k in range(3)}, {(0, k): score(500) for k in range(3)})
    assert (found.encoders, found.pairs, found.behind) == (1, 3, "1 encoder, 3 tunings")
    assert found.verdict() == "supported by one encoder"


def test_tunings_of_an_encoder_are_averaged_before_encoders_are_compared():
    ours = {(0, 0): score(600), (0, 1): score(640), (1, 0): score(510), (1, 1): score(530)}
    others = dict.fromkeys(ours, score(500))
    found = adv.effect(ours, others)
    student = stats.ttest_1samp([0.12, 0.02], 0).confidence_interval(0.95)
    images = [adv.effect({0: ours[k]}, {0: others[k]}) for k in ours]
    below = sum(e.value - e.low for e in images) / 4
    assert found.value == pytest.approx(0.07) and (found.encoders, found.pairs) == (2, 4)
    assert (found.value - found.low) ** 2 == pytest.approx(below**2 + (0.07 - student.low) ** 2, rel=1e-4)
    many = adv.effect({(0, k): score(600) for k in range(5)}, {(0, k): score(500) for k in range(5)})
    assert many.pairs == 5
    with pytest.raises(ValueError, match="at most 5 seeds"):
        adv.effect({k: score(600) for k in range(6)}, {k: score(500) for k in range(6)})


def test_only_scores_of_one_kind_are_compared():
    robust = score(600, metric="RA", attack="PGD-20, 8/255")
    for other in (score(500), score(500, metric="RA", attack="PGD-100, 8/255")):
        with pytest.raises(ValueError, match="scores of one kind"):
            adv.effect({0: robust}, {0: other})


def test_only_seeds_that_both_have_are_compared():
    ours, others = {0: score(600), 1: score(10)}, {2: score(900), 0: score(500)}
    assert adv.effect(ours, others) == adv.effect({0: score(600)}, {0: score(500)})
    with pytest.raises(ValueError, match="some of the seeds"):
        adv.effect({0: score(600)}, {1: score(500)})


def test_students_quantiles_are_right():
    for seeds, quantile in claims.T975.items():
        assert quantile == pytest.approx(stats.t.ppf(0.975, seeds - 1), abs=5e-5)


def test_a_verdict_needs_the_whole_interval_and_says_when_one_seed_gave_it():
    unsure = "not decidable at this scale"
    verdicts = {(0.01, 0.05): "supported", (-0.05, -0.01): "not supported", (-0.01, 0.05): unsure}
    for (low, high), verdict in verdicts.items():
        assert adv.Effect(0.0, low, high, 3, 3).verdict() == verdict
        assert adv.Effect(0.0, low, high).verdict() == (verdict if verdict == unsure else f"{verdict} by one seed")
    assert adv.Effect(0.0, -0.01, 0.05, 3, 3).verdict(margin=0.02) == "supported"
    assert adv.Effect(0.0, -0.05, -0.01, 3, 3).verdict(margin=0.02) == unsure
    assert adv.Effect(0.0, -0.05, -0.03, 3, 3).verdict(margin=0.02) == "not supported"


# cards


def test_scores_come_seed_by_seed_and_of_the_asked_result_alone():
    robust = score(200, metric="RA", attack="PGD-20, 8/255")
    cards = [
        card(seed=2, scores=[score(502)]), card(seed=0, scores=[score(500), robust]), card(seed=1, scores=[score(501)]),
        card(protocol="ALF"), card(transfer_to="cifar100"), card(note="F"), card(data="shapes"),
    ]  # fmt: skip
    found = adv.scores_of(cards, "E", "SLF", "SA")
    assert [(*seeds, s.correct) for seeds, s in found.items()] == [(0, 0, 500), (1, 0, 501), (2, 0, 502)]
    assert adv.scores_of(cards, "E", "SLF", "RA") == {(0, 0): robust}
    tuned = [card(tuning_seed=seed, scores=[score(500 + seed)]) for seed in (1, 0)]
    assert [s.correct for s in adv.scores_of(tuned, "E", "SLF", "SA").values()] == [500, 501]
    with pytest.raises(ValueError, match="expected one with AA of E, SLF on cifar10, got None"):
        adv.scores_of(cards, "E", "SLF", "AA")
    with pytest.raises(ValueError, match="one card for each seed"):
        adv.scores_of([*cards, card(seed=2)], "E", "SLF", "SA")


def test_the_time_to_a_goal_is_when_the_curve_stays_there():
    def point(epoch, sa, ra):
        return {"epoch": epoch, "seconds": 10 * epoch, "SA": sa, "RA": ra, "n": 500}

    curve = [point(1.0, 0.96, 0.10), point(2.0, 0.90, 0.20), point(3.0, 0.97, 0.30), point(4.0, 1.00, 0.40)]
    drawn = card(curve=curve)
    assert adv.time_to(drawn, "SA") == (3.0, 30.0)  # 96% after one epoch did not last
    assert adv.time_to(drawn, "RA") == (4.0, 40.0)
    assert adv.time_to(drawn, "RA", share=0.2) == (1.0, 10.0)
    assert adv.time_to(drawn, "SA", share=1.0) == (4.0, 40.0)


# published


def test_the_table_has_ours_beside_every_published_row_with_its_source():
    cards = [replace(card(scores=[score(500)]), note=ADVCL), replace(card(scores=[score(400)]), note="Mine")]
    table = adv.published_table(cards, [ADVCL, "Mine"], ["SLF"])
    rows = [line for line in table.splitlines() if line.startswith(("| AdvCL", "| Mine"))]
    assert rows == [
        f"| {ADVCL} | SLF | 50.0 (46.9-53.1) | - | - | 80.85 | 50.45 |  | [1] |",
        f"| {ADVCL} | SLF | 50.0 (46.9-53.1) | - | - | 82.36 |  | 43.18 | [2] |",
        "| Mine | SLF | 40.0 (37.0-43.1) | - | - |  |  |  |  |",
    ]
    sources = [row.source for row in adv.PUBLISHED[:2]]
    assert [f"[{k}] {source}" for k, source in enumerate(sources, 1)] == [
        line.strip() for line in table.splitlines() if line.startswith("[")
    ]
    assert table._repr_markdown_() == table
    several = [replace(card(seed=seed, scores=[score(500 + 10 * seed)]), note="Mine") for seed in range(3)]
    assert "| 51.0 (50.0-52.0, 3 seeds) |" in adv.published_table(several, ["Mine"], ["SLF"])


def test_published_numbers_are_percentages_with_a_source():
    for row in adv.PUBLISHED:
        assert row.protocol in adv.config.PROTOCOLS and len(row.source) > 10
        assert all(value is None or 1 < value < 100 for value in (row.SA, row.RA, row.AA))
        assert row.AA is None or row.AA < row.SA


# figures


def test_figures_show_what_they_are_given():
    drawn = card(curve=[{"epoch": k, "seconds": k, "SA": 0.1 * k, "RA": 0.0, "n": 500} for k in (1.0, 2.0)])
    effects = {"a": adv.Effect(0.02, 0.01, 0.03), "b": adv.Effect(0.0, -0.02, 0.02, 3, 3)}
    picture = adv.show_effects(effects, margin=0.01)
    (axes,) = picture.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    words = [text.get_text() for text in axes.texts]
    assert words == ["+2.0  supported by one seed", "+0.0  not decidable at this scale, 3 seeds"]
    ends = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2.5]
    assert [tuple(map(float, pair)) for pair in ends] == [(1.0, 3.0), (-2.0, 2.0)]

    pair = [score(500), score(200, metric="RA", attack="PGD-20, 8/255")]
    picture = adv.show_trade_off({"A": {"SLF": pair, "AFF": pair}, "B": {"SLF": pair}})
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["SLF", "AFF"]
    assert len(picture.axes[0].containers) == 3

    picture = adv.show_curves({"A": drawn, "B": drawn})
    assert [axes.get_xlabel() for axes in picture.axes] == ["seconds of fine-tuning"] * 2
    assert list(picture.axes[0].lines[0].get_ydata()) == [0.1, 0.2]


def test_a_sweep_shows_the_interval_of_each_seed_and_the_mean_of_a_value():
    both = lambda right: [score(right), score(right // 2, metric="RA", attack="PGD-20, 8/255")]  # noqa: E731
    picture = adv.show_sweep({"K=2": {1: both(420), 0: both(400)}, "K=10": {1: both(500)}})
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["seed 0", "seed 1"]
    for axes, share in zip(picture.axes, (1, 0.5), strict=True):
        later, first, alone = (container.lines for container in axes.containers)
        assert later[0].get_color() == alone[0].get_color() != first[0].get_color()
        places = [point.get_xdata()[0] for point, *_ in (first, later, alone)]
        assert places == pytest.approx([-0.1, 0.1, 1.1])  # a seed's place is the same for each value
        counted = adv.Score("SA", int(420 * share), 1000)
        assert later[2][0].get_segments()[0][:, 1] == pytest.approx([counted.low, counted.high])
        ends = [lines.get_segments()[0][:, 1] for lines in axes.collections]
        assert [low for low, high in ends if low == high] == pytest.approx([share * 0.41, share * 0.5])  # the dashes
