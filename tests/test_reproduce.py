"""`make reproduce`: its plan, and a result made whole, broken off, gone on with and evaluated again from its card."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import advcl_nb as adv

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import plans  # noqa: E402
import reproduce  # noqa: E402

TUNINGS = plans.protocols("SLF", "ALF", whole=True) + plans.protocols("AFF", whole=True, keep=True)
RUN = plans.Run("SimCLR", {"method": "simclr"}, TUNINGS)


def job_of(tuning: plans.Tuning) -> plans.Job:
    return plans.Job(plans.config_with(plans.config_of("smoke", RUN), tuning), RUN, tuning)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; few points and images, so that a result takes seconds."""
    for folder in ("data/checkpoints", "data/results"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "README.md").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "ON", 20)
    monkeypatch.setattr(reproduce, "POINTS", 3)
    monkeypatch.setattr(reproduce, "ATTACKED", 4)
    return tmp_path


@pytest.fixture
def maker(project):
    return reproduce.Maker("smoke", "cpu")


@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda tuning: tuning.protocol)
def test_a_card_gives_the_classifier_that_was_scored(tuning, maker):
    job = job_of(tuning)
    assert maker.card(job) is None
    maker.make(job)
    card = maker.card(job)
    assert card.note == "SimCLR" and (Path("data/checkpoints") / card.head["file"]).is_file()
    assert [point["n"] for point in card.curve] == [20] * len(card.curve) and len(card.curve) >= 2
    assert card.curve[-1]["epoch"] == job.settings.epochs
    _, test = adv.load_data(card.settings.data)
    model = adv.load_classifier(card)
    assert reproduce.standard_scores(job, model, test) == card.scored
    some = test[:20]
    assert adv.standard_accuracy(model, some.x, some.y).value == card.curve[-1]["SA"]


def test_a_fine_tuning_goes_on_where_it_was_broken_off(maker, monkeypatch):
    job = job_of(TUNINGS[0])
    whole = reproduce.Maker("smoke", "cpu")
    whole.make(job)
    expected = whole.card(job)
    for path in (*Path("runs").glob(f"*{job.key}*"), *Path("data/results").glob("*.json")):
        path.unlink()

    saved, save = [], adv.save

    def save_and_die(*args):  # noqa: E306
        saved.append(save(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(adv, "save", save_and_die)  # noqa: E305
    with pytest.raises(KeyboardInterrupt):
        maker.make(job)
    monkeypatch.setattr(adv, "save", save)
    assert len(saved) == 1 and maker.card(job) is None
    (first,) = adv.load(saved[0]).history
    maker.make(job)
    card = maker.card(job)
    assert card.curve[0]["seconds"] == first["seconds"]  # the row made before the end, not one like it
    assert card.scored == expected.scored and card.head["sha256"] == expected.head["sha256"]
    steps = [[point[name] for name in ("epoch", "SA", "RA")] for point in card.curve]
    assert steps == [[point[name] for name in ("epoch", "SA", "RA")] for point in expected.curve]


def test_another_encoder_under_the_same_name_is_another_result(maker):
    job = job_of(TUNINGS[0])
    maker.make(job)
    path = maker.path(job)
    other = adv.load_encoder(path)
    for weights in other.parameters():
        weights.data.mul_(1.1)
    adv.save_encoder(other, path, config=job.config, history=adv.load_history(path))
    assert maker.card(job) is None
    maker.make(job)
    card = maker.card(job)
    _, test = adv.load_data(card.settings.data)
    assert reproduce.standard_scores(job, adv.load_classifier(card), test) == card.scored


def test_autoattack_is_added_to_the_card_in_the_end(maker, capsys, monkeypatch):
    job = job_of(TUNINGS[0])
    maker.make(job)
    before = maker.card(job)
    assert reproduce.lacks(before, job) == ["RA", "AA"]
    maker.attack(job)
    after = maker.card(job)
    _, test = adv.load_data(job.data)
    pgd20 = reproduce.standard_scores(job, adv.load_classifier(after), test[:4])[1]  # on the images that are attacked
    assert after.scored[:3] == [*before.scored, pgd20] and (after.scored[3].metric, after.scored[3].n) == ("AA", 4)
    assert after.scored[3].attack == "AutoAttack, Linf 8/255" and after == replace(before, scores=after.scores)
    assert reproduce.lacks(after, job) == [] and len(list(Path("data/results").glob("*.json"))) == 1
    adv.write_card(replace(after, scores=[*before.scores, after.scores[3]]))
    monkeypatch.setattr(maker, "autoattack", None)
    maker.attack(job)  # what is there is not made again
    assert sorted(map(str, maker.card(job).scored)) == sorted(map(str, after.scored))
    maker.make(job)  # nor lost, where the same classifier is made again
    assert [score.metric for score in maker.card(job).scored] == ["SA", "RA", "AA", "RA"]
    capsys.readouterr()
    reproduce.print_plan(maker, [job])
    assert len(capsys.readouterr().out.splitlines()) == 1  # a job with something to do has a line of its own


def test_an_encoder_that_is_not_kept_leaves_a_card_with_the_command_that_makes_it(maker, capsys, monkeypatch):
    run = replace(RUN, name="SimCLR, a try", changes=RUN.changes | {"seed": 1, "epochs": 1}, kept=False)
    tuning = replace(TUNINGS[0], whole=False)
    job = plans.Job(plans.config_with(plans.config_of("smoke", run), tuning), run, tuning)
    maker.make(job)
    card = maker.card(job)
    told = "python tools/reproduce.py smoke --only 'SimCLR, a try' --protocols SLF --seeds 1 --data shapes --again"
    assert card.checkpoint is None and card.note == f"SimCLR, a try: {told}" and card.title == "SimCLR, a try"
    assert not list(Path("data/checkpoints").iterdir())
    assert list(adv.scores_of([card], "SimCLR, a try", "SLF", "SA", data="shapes")) == [(1, 1)]
    for path in Path("runs").iterdir():
        path.unlink()
    assert reproduce.Maker("smoke", "cpu").card(job) == card  # a clone has the card and no encoder
    capsys.readouterr()
    reproduce.print_plan(maker, [job])
    assert len(capsys.readouterr().out.splitlines()) == 1  # a job with something to do has a line of its own

    jobs_of = plans.jobs_of  # the command makes encoder and card again
    monkeypatch.setattr(reproduce, "jobs_of", lambda preset: [job, *jobs_of(preset)])
    monkeypatch.setattr(sys, "argv", shlex.split(told)[1:])
    reproduce.main()
    assert maker.path(job).is_file()
    assert [replace(c, seconds=0.0) for c in adv.read_cards()] == [replace(card, seconds=0.0)]


UNKEPT = [card for card in adv.read_cards(ROOT / "data" / "results") if card.checkpoint is None]


@pytest.mark.parametrize("card", UNKEPT, ids=lambda card: f"{card.title}, {card.protocol}, {card.seed}")
def test_the_command_in_a_committed_note_chooses_the_cards_own_job(card):
    _, told = card.note.split(": ")
    preset, *options = shlex.split(told.removeprefix("python tools/reproduce.py "))
    only, protocol, seed, data = (
        options[options.index(f"--{name}") + 1] for name in ("only", "protocols", "seeds", "data")
    )
    (job,) = [
        job
        for job in plans.jobs_of(preset)
        if (job.run.name, job.tuning.protocol, str(job.config.pretrain.seed), job.config.data.name)
        == (only, protocol, seed, data)
    ]
    assert reproduce.settings_of(card.settings, job) == reproduce.settings_of(job.config, job)
    assert (card.title, card.protocol, card.transfer_to) == job.identity and not job.run.kept


def test_a_whole_result_on_an_encoder_that_is_not_kept(maker, capsys):
    run = replace(RUN, kept=False)
    job = plans.Job(plans.config_with(plans.config_of("smoke", run), TUNINGS[0]), run, TUNINGS[0])
    maker.make(job)
    maker.attack(job)
    card = maker.card(job)
    assert [s.metric for s in card.scored] == ["SA", "RA", "RA", "AA"] and card.curve and not card.head
    assert not list(Path("data/checkpoints").iterdir())
    capsys.readouterr()
    reproduce.print_plan(maker, [job])
    assert len(capsys.readouterr().out.splitlines()) == 1
    for path in Path("runs").iterdir():
        path.unlink()
    adv.write_card(replace(card, scores=card.scores[:2]))
    reproduce.print_plan(maker, [job])  # what AutoAttack needs is gone, and would be made again
    line, _ = capsys.readouterr().out.splitlines()
    assert all(part in line for part in ("pretrain", "fine-tune and score", "AutoAttack"))
    maker.attack(job)
    assert [s.correct for s in maker.card(job).scored] == [s.correct for s in card.scored]


def test_a_fine_tuning_that_was_not_scored_as_it_went_is_made_again_for_a_whole_card(maker):
    maker.make(job_of(replace(TUNINGS[0], whole=False)))
    assert maker.card(job_of(TUNINGS[0])) is None
    maker.make(job_of(TUNINGS[0]))
    assert len(maker.card(job_of(TUNINGS[0])).curve) >= 2


def test_a_curve_is_of_the_same_images_whatever_the_test_set(maker, monkeypatch):
    scored, score = [], reproduce.standard_scores
    monkeypatch.setattr(reproduce, "standard_scores", lambda job, model, x: scored.append(x.x) or score(job, model, x))
    jobs = [job_of(replace(TUNINGS[0], all_test=every)) for every in (False, True)]
    for job in jobs:  # of digits, whose parts are chosen as CIFAR's are
        data, model = (replace(job.config.data, name="digits", size=8, train=40), replace(job.config.model, channels=1))
        job = replace(job, config=replace(job.config, data=data, model=model))
        maker.tune(job)
        maker.tuned(job).unlink()
    assert jobs[0].data.test == 100 and jobs[1].data.test is None
    assert len(scored) == 4 and all(len(images) == 20 and torch.equal(images, scored[0]) for images in scored)


def test_what_the_authors_labels_are_needed_for_is_left_out_where_they_are_not_here(project, capsys, monkeypatch):
    monkeypatch.setenv("ADVCL_DATA", str(project))
    kept = reproduce.with_labels(plans.jobs_of("cifar"))
    assert "left out: AdvCL with the authors' pseudo-labels (ImageNet); path: expected" in capsys.readouterr().out
    assert {job.run.name for job in plans.jobs_of("cifar")} - {job.run.name for job in kept} == {plans.IMAGENET}


def test_the_plan_names_the_simclr_that_makes_the_pseudo_labels(maker, capsys):
    run = plans.Run("AdvCL", {"seed": 1}, TUNINGS[:1])
    job = plans.Job(plans.config_with(plans.config_of("smoke", run), TUNINGS[0]), run, TUNINGS[0])
    simclr = replace(run, name="SimCLR", changes=run.changes | {"method": "simclr"}, kept=False)
    first = plans.Job(plans.config_with(plans.config_of("smoke", simclr), TUNINGS[0]), simclr, TUNINGS[0])
    reproduce.print_plan(maker, [job])
    assert "SimCLR for its pseudo-labels" in capsys.readouterr().out.splitlines()[0]
    reproduce.print_plan(maker, [first, job])
    lines = capsys.readouterr().out.splitlines()
    assert all("pretrain" in line and "pseudo-labels" not in line for line in lines[:2])


def test_names_and_folders_that_do_not_fit_are_refused(project, capsys, monkeypatch):
    for arguments, words in (
        (["--only", "SimCLR", "AdvLC"], "expected a run of SimCLR, AdvCL"),
        (["--seeds", "7"], "seed and data"),
    ):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "smoke", *arguments])
        with pytest.raises(SystemExit):
            reproduce.main()
        assert words in capsys.readouterr().err
    monkeypatch.chdir(project / "data")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "smoke", "--plan"])
    with pytest.raises(SystemExit):
        reproduce.main()
    assert "expected to be started in" in capsys.readouterr().err


def test_a_file_that_is_not_the_scored_one_is_refused(maker):
    job = job_of(TUNINGS[0])
    maker.make(job)
    card = maker.card(job)
    with pytest.raises(ValueError, match="card: expected a card that names its head"):
        adv.load_classifier(replace(card, head=None))
    with pytest.raises(TypeError, match="card"):
        adv.load_classifier("card")
    for file in (card.checkpoint["file"], card.head["file"]):
        path = Path("data/checkpoints") / file
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(FileNotFoundError, match=f"expected {file} in data/checkpoints"):
            adv.load_classifier(card)
        path.write_bytes(content[:-1])
        with pytest.raises(ValueError, match=f"expected {file} as it was scored"):
            adv.load_classifier(card)
        path.write_bytes(content)
    with pytest.raises(TypeError, match="classifier"):
        adv.save_head(adv.load_encoder(Path("data/checkpoints") / card.checkpoint["file"]), "head.pt", encoder=path)
    with pytest.raises(TypeError, match="encoder"):
        adv.save_head(adv.load_classifier(card), "head.pt", encoder="name.pt")


def test_a_head_is_no_encoder_and_no_run(maker):
    maker.make(job_of(TUNINGS[0]))
    (path,) = Path("data/checkpoints").glob("*head.pt")
    for read in (adv.load, adv.load_encoder):
        with pytest.raises(ValueError, match=r"got 'head'. Use load_classifier\(card\)\.$"):
            read(path)


def test_a_sweeps_pseudo_labels_are_the_presets_a_column_for_each_count(maker):
    counts, images = maker.config.model.cluster_counts, maker.images(maker.config.data)
    maker.labels("preset", counts)  # trains SimCLR
    encoder = adv.load_encoder(maker.path(next(iter(plans.jobs_of("smoke")))))
    seed = adv.Streams(maker.config.pretrain.seed).number("clusters")
    whole = adv.pseudo_labels(adv.extract_features(encoder, images.x), counts, seed=seed)
    assert torch.equal(maker.labels("preset", counts), whole)
    assert torch.equal(maker.labels("preset", counts[1:2]), whole[:, 1:2])
    assert maker.labels("own", counts) is None


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sweep_changes_one_thing_at_a_time(seed):
    jobs = [job for job in plans.jobs_of("cifar") if " epochs, " in job.run.name]
    assert len(jobs) == 20 and not any(" epochs, " in job.run.name for job in plans.jobs_of("budget"))
    jobs = [job for job in jobs if (job.config.pretrain.seed, job.settings.seed) == (seed, seed)]
    radii = [job for job in jobs if "radius=" in job.run.name]
    assert [job.config.pretrain.views.radius for job in radii] == [0, 4, 8, 12, 16]
    assert [job.config.model.cluster_counts for job in jobs if "K=" in job.run.name] == [
        (k,) for k in (2, 10, 50, 100, 500)
    ]
    center = radii[2].config
    for job in jobs:
        views = replace(job.config.pretrain.views, radius=8.0)
        model = replace(job.config.model, cluster_counts=center.model.cluster_counts)
        assert replace(job.config, model=model, pretrain=replace(job.config.pretrain, views=views)) == center
        assert job.run.labels == "preset" and not job.run.kept


def test_the_plan_names_every_part_that_is_left(maker, capsys):
    reproduce.print_plan(maker, [job_of(tuning) for tuning in TUNINGS])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:3]] == [
        f"SimCLR on shapes, {name}, seed 0" for name in ("SLF", "ALF", "AFF")
    ]
    assert "pretrain" in lines[0] and all("fine-tune and score" in line and "AutoAttack" in line for line in lines[:3])
    assert lines[3].startswith("3 cards; about ")


def test_the_estimate_of_autoattack_counts_what_each_attack_meets(maker, monkeypatch):
    clock, job = reproduce.Clock(maker.images(maker.config.data), "cpu"), job_of(TUNINGS[0])
    monkeypatch.setattr(clock, "forwards", lambda job, count: count)
    card = adv.read_cards(ROOT / "data" / "results")[0]
    scores = [adv.Score("SA", 50, 100), adv.Score("RA", 0, 100, "PGD-20, 8/255")]
    helpless = replace(card, scores=[reproduce.score_fields(score) for score in scores])
    assert clock.autoattack(job, 10, helpless) == 0.5 * 10 * 100 * adv.autoattack.COSTS["apgd-ce"]
    scores[1] = adv.Score("RA", 50, 100, "PGD-20, 8/255")
    whole = replace(card, scores=[reproduce.score_fields(score) for score in scores])
    named = adv.autoattack.STANDARD
    assert clock.autoattack(job, 10, whole) == 0.5 * 10 * 100 * sum(adv.autoattack.COSTS[name] for name in named)


@pytest.mark.parametrize("preset", ["smoke", "teach", "cifar", "budget"])
def test_no_two_jobs_are_the_same(preset):
    jobs = plans.jobs_of(preset)
    told = {(str(job.config), job.identity) for job in jobs}
    assert len(told) == len(jobs)
    runs = {(job.run.name, job.config.data.name, job.config.pretrain.seed, job.key) for job in jobs}
    assert len(runs) == len(jobs)


def test_curves_of_cards_are_checked():
    card = adv.read_cards(ROOT / "data" / "results")[0]
    point = {"epoch": 1.0, "seconds": 2.0, "SA": 0.5, "RA": 0.1, "n": 500}
    assert replace(card, curve=[point]).curve == [point]
    with pytest.raises(ValueError, match="curve"):
        replace(card, curve=[point | {"AA": 0.1}])
    with pytest.raises(ValueError, match="head"):
        replace(card, head={"file": "a"})
