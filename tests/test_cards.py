"""Result cards: what is written is read, a wrong card is told by name, and the committed cards hold."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import advcl_nb as adv
from advcl_nb import cards
from advcl_nb._plain import to_plain
from advcl_nb._revive import from_plain

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = sorted((ROOT / "data" / "results").glob("*.json"))
FIELDS = {
    "schema", "data", "method", "protocol", "transfer_to", "seed", "config", "versions", "hardware", "seconds",
    "epochs", "scores", "checkpoint", "note", "head", "curve",
}  # fmt: skip
SCORES = [adv.Score("SA", 931, 1000), adv.Score("RA", 432, 1000, "PGD-20, 8/255")]
CONFIG = adv.preset("smoke")


def card(protocol="SLF", config=CONFIG, scores=SCORES, **options):
    return adv.make_card(config, protocol, scores, **{"seconds": 12.345, "checkpoint": None} | options)


def with_seed(seed):
    return replace(CONFIG, pretrain=replace(CONFIG.pretrain, seed=seed))


# Writing and reading


def test_a_written_card_is_read_back(tmp_path):
    encoder = tmp_path / "shapes-advcl-0123456789.pt"
    encoder.write_bytes(b"abc")
    written = card(checkpoint=encoder, note="a note")
    path = adv.write_card(written, tmp_path)
    (again,) = adv.read_cards(tmp_path)
    assert again == written
    assert again.scored == SCORES and again.settings == CONFIG
    plain = json.loads(path.read_text())
    assert set(plain) == FIELDS and plain["schema"] == 1
    assert set(plain["config"]) == {"data", "model", "pretrain", "finetune"}
    assert plain["config"] == to_plain(CONFIG)
    assert (plain["data"], plain["method"], plain["protocol"], plain["transfer_to"]) == ("shapes", "advcl", "SLF", None)
    assert (plain["seed"], plain["epochs"], plain["seconds"], plain["note"]) == (0, 2, 12.3, "a note")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2
    assert plain["checkpoint"] == {"file": encoder.name, "sha256": sha256}
    assert torch.__version__.startswith(plain["versions"]["torch"]) and plain["hardware"]


def test_scores_are_written_as_fractions_with_their_wilson_interval(tmp_path):
    plain = json.loads(adv.write_card(card(), tmp_path).read_text())["scores"]
    assert [(s["metric"], s["attack"], s["correct"], s["n"]) for s in plain] == [
        ("SA", None, 931, 1000),
        ("RA", "PGD-20, 8/255", 432, 1000),
    ]
    assert [s["value"] for s in plain] == [0.931, 0.432]
    assert (plain[1]["low"], plain[1]["high"]) == pytest.approx((0.4016, 0.4629), abs=5e-5)  # Wilson 1927, by hand
    assert all(set(s) == {"metric", "attack", "value", "correct", "n", "low", "high"} for s in plain)


def test_cards_lie_in_data_results_of_the_project(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert adv.read_cards() == []
    path = adv.write_card(card())
    assert path.parent == tmp_path / "data" / "results" == cards.results_folder()
    assert adv.read_cards() == [card()]


def test_a_result_made_again_replaces_its_card_and_no_other(tmp_path):
    others = [
        card(),
        card("ALF"),
        card(config=with_seed(1)),
        card(note="another note"),
        replace(card(), transfer_to="digits"),
    ]
    paths = [adv.write_card(other, tmp_path) for other in others]
    assert len(set(paths)) == len(others) == len(adv.read_cards(tmp_path))
    better = card(scores=[adv.Score("SA", 99, 100)], seconds=1.0)
    assert adv.write_card(better, tmp_path) == paths[0]
    read = adv.read_cards(tmp_path)
    assert len(read) == len(others) and better in read and others[0] not in read
    assert all(other in read for other in others[1:])


def no_room(file):
    raise OSError("no space left")


def interrupted_replace(source, target):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("owner", "name", "failure", "error"),
    [(os, "fsync", no_room, OSError), (os, "replace", interrupted_replace, KeyboardInterrupt)],
)
def test_a_write_that_fails_leaves_the_old_card_whole_and_no_other(tmp_path, monkeypatch, owner, name, failure, error):
    path = adv.write_card(card(), tmp_path)
    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(owner, name, failure)
        adv.write_card(card(seconds=99.0), tmp_path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_a_card_names_the_device_that_was_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    assert card(device="cuda:1").hardware == "a GPU, cuda:1"
    assert card().hardware.endswith("thread(s)")


def test_hardware_is_named_where_there_is_no_cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr(cards.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(cards, "Path", lambda _: tmp_path / "none")
    assert cards.hardware() == f"arm64, {torch.get_num_threads()} thread(s)"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Processor 2 GHz\n")
    monkeypatch.setattr(cards, "Path", lambda _: tmp_path / "cpuinfo")
    assert cards.hardware().startswith("A Processor 2 GHz, ")


# Wrong cards


def set_score(plain, **fields):
    plain["scores"][1].update(fields)


WRONG = {
    "another schema": lambda plain: plain.update(schema=2),
    "a method nobody has": lambda plain: plain.update(method="moco"),
    "a protocol nobody has": lambda plain: plain.update(protocol="slf"),
    "a field too few": lambda plain: plain.pop("hardware"),
    "a field too many": lambda plain: plain.update(accuracy=0.9),
    "a part of the config missing": lambda plain: plain["config"].pop("model"),
    "no config": lambda plain: plain.update(config=None),
    "no score": lambda plain: plain.update(scores=[]),
    "scores as numbers": lambda plain: plain.update(scores=[0.9]),
    "scores of null": lambda plain: plain.update(scores=None),
    "a score without its count": lambda plain: plain["scores"][0].pop("n"),
    "a score with more": lambda plain: set_score(plain, std=0.1),
    "a value in percent": lambda plain: set_score(plain, value=43.2),
    "a value that the counts do not give": lambda plain: set_score(plain, value=0.433),
    "counts that the value does not give": lambda plain: set_score(plain, correct=433),
    "an interval that the counts do not give": lambda plain: set_score(plain, low=0.40),
    "more right than there are": lambda plain: set_score(plain, correct=1001),
    "counts as text": lambda plain: set_score(plain, correct="432"),
    "a metric nobody has": lambda plain: set_score(plain, metric="acc"),
    "a value that is no number": lambda plain: set_score(plain, value=float("nan")),
    "a checkpoint without its sha256": lambda plain: plain.update(checkpoint={"file": "a.pt"}),
    "a checkpoint by name": lambda plain: plain.update(checkpoint="a.pt"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_card_is_refused_and_its_file_named(tmp_path, name):
    path = adv.write_card(card(), tmp_path)
    adv.write_card(card("ALF"), tmp_path)
    plain = json.loads(path.read_text())
    WRONG[name](plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=f"card: expected a card of schema 1, got {path.name}: "):
        adv.read_cards(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[{}]", b"1", b"null", b'"card"', b"\xff\xfe\x00"])
def test_a_file_that_is_no_card_is_refused_and_named(tmp_path, content):
    (tmp_path / "foreign.json").write_bytes(content)
    with pytest.raises(ValueError, match="got foreign.json"):
        adv.read_cards(tmp_path)


def test_only_right_scores_make_a_card():
    with pytest.raises(ValueError, match="scores: expected one score or more"):
        card(scores=[])
    with pytest.raises(ValueError, match="protocol: expected one of"):
        card("LP")
    for score in ({"metric": "SA"}, cards.score_fields(SCORES[0]) | {"correct": 930}):
        with pytest.raises(ValueError, match="scores: expected"):
            replace(card(), scores=[score])


# The table


def test_cards_print_as_a_table(tmp_path):
    adv.write_card(card(note="first"), tmp_path)
    adv.write_card(replace(card("AFF", with_seed(12)), transfer_to="digits", note=""), tmp_path)
    header, *rows = repr(adv.read_cards(tmp_path)).splitlines()
    assert header.split() == ["data", "method", "protocol", "seed", "epochs", "share", "scores", "note"]
    few = card(scores=[*SCORES, adv.Score("AA", 3, 10, "AutoAttack, Linf 8/255")])
    assert repr(cards.Cards([few])).endswith("RA[PGD-20, 8/255] 43.2 AA[AutoAttack, Linf 8/255] 30.0 (10)")
    assert sorted(row.split(maxsplit=6) for row in rows) == [
        ["shapes", "advcl", "SLF", "0", "2", "0.2%", "SA 93.1 RA[PGD-20, 8/255] 43.2  first"],
        ["shapes>digits", "advcl", "AFF", "12", "2", "0.2%", "SA 93.1 RA[PGD-20, 8/255] 43.2"],
    ]
    for column in ("method", "protocol", "seed", "scores"):
        assert {row[header.index(column) - 1] for row in rows} == {" "}, f"{column}: every cell starts below its name"
    assert repr(adv.read_cards(tmp_path / "nothing")).split() == header.split()


# The committed cards


def names_of(card):
    """What the encoder's file may be called: its run's name, with its own pseudo-labels or with the authors'."""
    data, whole = card.settings.data, {"cifar10": (50000, 3, 32), "cifar100": (50000, 3, 32), "shapes": (2048, 3, 16)}
    count, channels, size = whole[data.name]
    count, size = data.train or count, data.size or size
    x = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(count, channels, size, size)  # only the shape counts
    images = adv.Images(x, torch.zeros(count, dtype=torch.int64), ("any",))
    yield adv.run_name(card.settings, images)
    if "ImageNet" in card.note:
        try:
            labels = adv.load_release_pseudo_labels(counts=card.settings.model.cluster_counts)
        except FileNotFoundError as error:
            pytest.skip(str(error))
        yield adv.run_name(card.settings, images, labels)
    if "float32" in card.note:  # named by the content of another encoder's clusters, which only the images would give
        yield Path(card.checkpoint["file"]).stem


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_card_holds(path):
    card = cards.Card(**json.loads(path.read_text()))
    settings = card.settings
    identity = (settings.data.name, settings.pretrain.method, settings.pretrain.seed, settings.pretrain.epochs)
    assert (card.data, card.method, card.seed, card.epochs) == identity
    assert card.protocol in settings.finetune and card.seconds > 0
    assert [score.attack is None for score in card.scored] == [score.metric == "SA" for score in card.scored]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_encoder_of_a_committed_card_is_the_one_that_was_scored(path):
    card = cards.Card(**json.loads(path.read_text()))
    if card.checkpoint is None:  # then the note ends in the command that makes it, and test_reproduce.py reads that
        assert ": python tools/reproduce.py " in card.note
        return
    file = ROOT / "data" / "checkpoints" / card.checkpoint["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card.checkpoint["sha256"]
    content = torch.load(file, weights_only=True)
    made_by = from_plain(adv.Config, content["config"])  # a field that came later has its default
    assert (made_by.model, made_by.pretrain) == (card.settings.model, card.settings.pretrain)
    assert content["branch"] == card.settings.pretrain.branch
    assert content["history"][-1]["epoch"] == card.epochs
    assert Path(file).stem in set(names_of(card))
