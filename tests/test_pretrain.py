"""Pretraining: the exact method against the release's schedule, each method's parts, and the loop around a step."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import Release, release_step
from release_schedule import FirstStep, logged_constant, sup_con_loss

import advcl_nb as adv
from advcl_nb import _loop, pretrain
from advcl_nb.config import Config, PretrainConfig

MODEL = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
VIEWS = adv.ViewSettings(crop_scale=(0.5, 1.0), padding=2, radius=4.0)
ATTACK = adv.Linf(8 / 255, 2 / 255, 5)
QUICK = adv.Linf(8 / 255, 4 / 255, 1)
SCALE = 0.5 / 0.07
IMAGES = adv.shapes(64, size=16)


def config(method="advcl", model=MODEL, **changes):
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "warmup_epochs": 0, "attack": ATTACK}
    return Config(model=model, pretrain=PretrainConfig(method=method, views=VIEWS, **settings | changes))


def start(method="advcl", **changes):
    return adv.PretrainState.start(config(method, **changes))


def pseudo(n=64):
    return torch.stack([torch.arange(n) % count for count in MODEL.cluster_counts], 1)


def step(state, n=16):
    return adv.pretrain_step(state, IMAGES.x[:n], pseudo(n))


def statistics(encoder):
    """Each branch's running statistics: name -> tensor, copied."""
    tensors = {branch: {} for branch in adv.BRANCHES}
    for name, tensor in encoder.state_dict().items():
        if "running" in name or "num_batches" in name:
            tensors[name.split("branches.")[1].split(".")[0]][name] = tensor.clone()
    return tensors


def updates(encoder):
    """How many updates each branch's running statistics had; the same in all its norm layers."""
    counts = {branch: {int(t) for name, t in ts.items() if "num" in name} for branch, ts in statistics(encoder).items()}
    assert all(len(seen) == 1 for seen in counts.values())
    return tuple(counts[branch].pop() for branch in adv.BRANCHES)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Recorder:
    """Watch the attacks and the views of a step: (branch images, start, result) of each, and the views."""

    def __init__(self, monkeypatch, state):
        self.attacks, self.views, self.modes, self.forwards = [], [], [], []
        pgd, make_views = pretrain.pgd, pretrain.make_views

        def watched_pgd(loss, images, threat, *, generator):
            twin = torch.Generator()
            twin.set_state(generator.get_state())
            begin = pgd(loss, images, replace(threat, steps=0), generator=twin)
            before = copy.deepcopy([p.data for p in state.model.parameters()])
            result = pgd(loss, images, threat, generator=generator)
            self.modes.append({module.training for module in state.model.modules()})
            assert all(p.requires_grad and p.grad is None for p in state.model.parameters())
            assert all(torch.equal(p, b) for p, b in zip(state.model.parameters(), before, strict=True))
            self.attacks.append((images.clone(), begin, result.clone()))
            return result

        def watched_views(images, draw):
            self.views.append(make_views(images, draw))
            return self.views[-1]

        monkeypatch.setattr(pretrain, "pgd", watched_pgd)
        monkeypatch.setattr(pretrain, "make_views", watched_views)
        state.encoder.register_forward_pre_hook(lambda _, inputs: self.forwards.append(inputs[1]))


# The exact method


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("changes", "counts", "forwards"),
    [
        ({}, (18, 6, 6), (15, 30)),
        ({"high_view": False}, (12, 6, 6), (14, 24)),
        ({"pseudo_weight": 0.0}, (18, 6, 0), (9, 24)),
    ],
    ids=["advcl", "no high view", "no pseudo-labels"],
)
def test_a_step_equals_the_releases_schedule(monkeypatch, double, changes, counts, forwards):
    state = start(**changes)
    if double:
        state.model.double()
        monkeypatch.setattr(pretrain, "to_float", lambda images: images.double() / 255)
    release = copy.deepcopy(state.model)
    seen = Recorder(monkeypatch, state)
    parts = step(state)

    view1, view2, base, high = seen.views[0]
    starts = [attack[1] for attack in seen.attacks]
    settings = state.settings
    constants = Release(
        ce_weight=settings.pseudo_weight, high_view=settings.high_view, learning_rate=settings.learning_rate
    )
    encoded = []
    release.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[1]))
    begin, clean = (starts[0], starts[-1]), (view1, view2, high)
    update = FirstStep(release.parameters(), constants)
    truth = release_step(release, base, begin, clean, pseudo(16), constants=constants, optimizer=update)

    assert (len(seen.forwards), len(encoded)) == forwards
    for (images, begin, result), expected in zip(seen.attacks, (truth.x_cl, truth.x_ce), strict=False):
        assert torch.equal(images, base) and not torch.equal(begin, base)
        assert torch.equal(result, expected) and not torch.equal(result, begin)
    close = {"rtol": 1e-12, "atol": 1e-12} if double else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(parts["contrast"], truth.contrast, **close)
    torch.testing.assert_close(parts["loss"], truth.contrast + truth.pseudo, **close)
    torch.testing.assert_close(parts.get("pseudo", torch.zeros_like(truth.pseudo)), truth.pseudo, **close)

    assert updates(state.encoder) == updates(release.encoder) == counts
    ours, theirs = statistics(state.encoder), statistics(release.encoder)
    torch.testing.assert_close(ours["clean"], theirs["clean"], **close)
    for branch in ("adv", "adv_pseudo"):  # these forwards are the same, one by one
        assert all(torch.equal(tensor, theirs[branch][name]) for name, tensor in ours[branch].items())
    for (name, parameter), twin in zip(state.model.named_parameters(), release.parameters(), strict=True):
        assert (parameter.grad is None) == (twin.grad is None), name
        if twin.grad is not None:
            torch.testing.assert_close(parameter.grad, twin.grad, rtol=close["rtol"] * 10, atol=close["atol"] * 10)
        torch.testing.assert_close(parameter, twin, **close)


def test_bn_updates_once_counts_each_view_once_and_changes_no_loss():
    release, once = start(), start(bn_updates="once")
    for _ in range(2):  # the second step would show a difference in weights
        ours, theirs = step(once), step(release)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert updates(once.encoder) == (6, 2, 2) and updates(release.encoder) == (36, 12, 12)
    assert all(torch.equal(a, b) for a, b in zip(once.model.parameters(), release.model.parameters(), strict=True))


def test_statistics_under_once_are_those_of_the_trained_views_alone(monkeypatch):
    state = start(bn_updates="once")
    twin = copy.deepcopy(state.model).train()
    seen = Recorder(monkeypatch, state)
    step(state)
    for view in (seen.views[0].view1, seen.views[0].view2, seen.views[0].high):
        twin.encoder(view, "clean")
    twin.encoder(seen.attacks[0][2], "adv")
    twin.encoder(seen.attacks[1][2], "adv_pseudo")
    ours, theirs = statistics(state.encoder), statistics(twin.encoder)
    assert all(torch.equal(t, theirs[branch][name]) for branch in ours for name, t in ours[branch].items())


def test_a_collapsed_embedding_logs_the_releases_constant():
    counts = (2, 10, 50, 100, 500)
    model = adv.ModelConfig(width=1, blocks=(1,), projector=(2, 2), cluster_counts=counts)
    state = start(model=model, attack=adv.Linf(8 / 255, 2 / 255, 1))
    with torch.no_grad():
        state.model.projector[3].weight.zero_()
        state.model.projector[3].bias.fill_(1)
        for head in state.model.heads:
            head.weight.zero_()
            head.bias.zero_()
    images = torch.randint(256, (512, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parts = adv.pretrain_step(state, images, torch.zeros(512, 5, dtype=torch.int64))
    assert float(parts["contrast"]) == pytest.approx(54.458, abs=5e-4)  # 7.142857 ln(4 * 512 - 1)
    assert float(parts["pseudo"]) == pytest.approx(0.709, abs=5e-4)
    contrast, labels = logged_constant(4, 512, counts, Release())
    assert float(parts["loss"]) == pytest.approx(contrast + labels, rel=1e-5)


# Each method's own


def test_simclr_is_the_contrastive_loss_of_two_clean_views(monkeypatch):
    state = start("simclr")
    twin = copy.deepcopy(state.model).train()
    seen = Recorder(monkeypatch, state)
    parts = adv.pretrain_step(state, IMAGES.x[:16])
    embeddings = [twin(view, "clean") for view in seen.views[0][:2]]
    torch.testing.assert_close(parts["contrast"], sup_con_loss(embeddings, 0.5), rtol=1e-6, atol=1e-6)
    assert set(parts) == {"loss", "contrast"} and not seen.attacks
    assert seen.forwards == ["clean", "clean"]
    ours, theirs = statistics(state.encoder), statistics(twin.encoder)
    assert all(torch.equal(t, theirs[branch][name]) for branch in ours for name, t in ours[branch].items())
    assert updates(state.encoder) == (2, 0, 0)


def test_acl_is_the_mean_of_a_clean_and_an_attacked_pair(monkeypatch):
    state = start("acl", attack=adv.Linf(8 / 255, 2 / 255, 3))
    model = copy.deepcopy(state.model)
    seen = Recorder(monkeypatch, state)
    parts = adv.pretrain_step(state, IMAGES.x[:16])
    views = torch.cat(list(seen.views[0][:2]))
    images, x, result = seen.attacks[0]
    assert torch.equal(images, views)
    model.eval()
    for _ in range(3):  # both views move together, in eval mode, through the adversarial branch
        x = x.detach().requires_grad_()
        loss = sup_con_loss([model(x[:16], "adv"), model(x[16:], "adv")], 0.5)
        (gradient,) = torch.autograd.grad(loss, x)
        x = torch.min(torch.max(x + 2 / 255 * gradient.sign(), views - 8 / 255), views + 8 / 255).clamp(0, 1).detach()
    assert torch.equal(x, result)
    model.train()
    clean = sup_con_loss([model(view, "clean") for view in views.split(16)], 0.5)
    attacked = sup_con_loss([model(view, "adv") for view in x.split(16)], 0.5)
    torch.testing.assert_close(parts["contrast_clean"], clean / 2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts["contrast_adv"], attacked / 2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts["loss"], (clean + attacked) / 2, rtol=1e-6, atol=1e-6)
    assert updates(state.encoder) == (2, 2, 0)
    ours, theirs = statistics(state.encoder), statistics(model.encoder)
    assert all(torch.equal(t, theirs[branch][name]) for branch in ours for name, t in ours[branch].items())


def test_rocl_joins_an_adversarial_view_of_the_first_to_both(monkeypatch):
    state = start("rocl", attack=adv.Linf(8 / 255, 2 / 255, 3))
    model = copy.deepcopy(state.model)
    seen = Recorder(monkeypatch, state)
    parts = adv.pretrain_step(state, IMAGES.x[:16])
    first, second, *_ = seen.views[0]
    images, x, result = seen.attacks[0]
    assert torch.equal(images, first)
    model.eval()
    for _ in range(3):  # away from the second view, in eval mode
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(sup_con_loss([model(x, "clean"), model(second, "clean")], 0.5), x)
        x = torch.min(torch.max(x + 2 / 255 * gradient.sign(), first - 8 / 255), first + 8 / 255).clamp(0, 1).detach()
    assert torch.equal(x, result)
    model.train()
    a, b, c = (model(view, "clean") for view in (first, second, x))
    similarity = [[(u @ v.T / 0.5) for v in (a, b, c)] for u in (a, b, c)]
    rows = torch.cat([torch.cat(row, 1) for row in similarity]).fill_diagonal_(-torch.inf).log_softmax(1)
    pairs = [rows[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].diagonal() for i in range(3) for j in range(3) if i != j]
    published = -torch.cat(pairs).sum() / 48  # RoCL's loss.py: six diagonals, divided by the number of rows
    torch.testing.assert_close(parts["contrast"], SCALE * published, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts["adversarial_to_view"], sup_con_loss([c, b], 0.5) / 256, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "mode", "counts"),
    [
        ("rocl", None, (3, 0, 0)),
        ("rocl", "train", (13, 0, 0)),  # each of five gradients encodes both views
        ("acl", None, (2, 2, 0)),
        ("acl", "train", (2, 12, 0)),
        ("advcl", None, (18, 6, 6)),
        ("advcl", "eval", (3, 1, 1)),  # in eval mode the release's re-encoding would leave no trace either
    ],
)
def test_the_attack_runs_in_its_mode_and_leaves_the_statistics_that_follow(monkeypatch, method, mode, counts):
    state = start(method, attack_mode=mode)
    seen = Recorder(monkeypatch, state)
    step(state)
    training = (mode or {"advcl": "train"}.get(method)) == "train"
    assert seen.modes == [{training}] * (2 if method == "advcl" else 1)
    assert updates(state.encoder) == counts
    assert all(module.training for module in state.model.modules())


@pytest.mark.parametrize(
    ("method", "changes", "idle"),
    [
        ("simclr", {}, ["adv", "adv_pseudo"]),
        ("rocl", {}, ["adv", "adv_pseudo"]),
        ("acl", {}, ["adv_pseudo"]),
        ("advcl", {"pseudo_weight": 0.0}, ["adv_pseudo"]),
    ],
)
def test_a_branch_that_is_not_used_keeps_every_bit(method, changes, idle):
    state = start(method, **changes)
    for tensor in state.encoder.state_dict().values():  # so that weight decay or an update would show
        tensor.add_(1)
    before = {name: tensor.clone() for name, tensor in state.encoder.state_dict().items()}
    for _ in range(2):
        step(state)
    for name, tensor in state.encoder.state_dict().items():
        unused = any(f"branches.{branch}." in name for branch in idle)
        assert torch.equal(tensor, before[name]) == unused, name


def test_an_attack_on_one_branch_leaves_the_others_statistics(monkeypatch):
    state = start()
    pgd, moved = pretrain.pgd, []

    def watched(*arguments, generator):
        before = statistics(state.encoder)
        result = pgd(*arguments, generator=generator)
        after = statistics(state.encoder)
        moved.append([b for b in before if any(not torch.equal(t, after[b][name]) for name, t in before[b].items())])
        return result

    monkeypatch.setattr(pretrain, "pgd", watched)
    step(state)
    assert moved == [["adv"], ["adv_pseudo"]]


@pytest.mark.parametrize("method", ["simclr", "rocl", "acl", "advcl"])
def test_contrast_scale_multiplies_the_contrastive_loss_alone(method):
    plain, scaled = step(start(method, contrast_scale=1.0)), step(start(method, contrast_scale=3.0))
    for name in set(plain) - {"loss"}:
        factor = 1 if name == "pseudo" else 3
        torch.testing.assert_close(scaled[name], factor * plain[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["simclr", "rocl", "acl", "advcl"])
def test_the_loss_is_the_sum_of_its_parts(method):
    parts = step(start(method))
    loss = parts.pop("loss")
    torch.testing.assert_close(loss, sum(parts.values()))
    assert all(part.shape == () and not part.requires_grad for part in parts.values())


def test_a_short_simclr_run_learns_to_tell_images_apart():
    state = start("simclr", epochs=18, batch_size=32, contrast_scale=1.0, learning_rate=0.3)
    rows = list(adv.pretrain_epochs(state, IMAGES))
    assert rows[-1]["loss"] < min(rows[0]["loss"], math.log(2 * 32 - 1)) - 0.2  # the latter is a collapsed model's
    # In eval mode and on unseen images, two views of an image are nearer than views of two images.
    draw = adv.draw_views(64, 16, 16, VIEWS, generator=torch.Generator().manual_seed(9))
    views = adv.make_views(adv.to_float(adv.shapes(64, size=16, split="test").x), draw)
    state.model.eval()
    with torch.no_grad():
        a, b = (state.model(view, "clean") for view in (views.view1, views.view2))
    similarity = a @ b.T
    assert similarity.diag().mean() > similarity.mean() + 0.2


# What a step leaves alone


@pytest.mark.parametrize("method", ["simclr", "rocl", "acl", "advcl"])
def test_a_step_changes_neither_its_images_nor_the_global_generators(method):
    state, images, labels = start(method), IMAGES.x[:16].clone(), pseudo(16)
    torch.manual_seed(3), np.random.seed(3)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(3), np.random.seed(3)
    adv.pretrain_step(state, images, labels)
    start(method)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()
    assert torch.equal(images, IMAGES.x[:16]) and torch.equal(labels, pseudo(16))


@pytest.mark.parametrize("method", ["simclr", "rocl", "acl", "advcl"])
def test_the_seed_alone_decides(method):
    runs = []
    for noise, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(noise)
        state = start(method, seed=seed, attack=QUICK)
        step(state), step(state)
        runs.append(state.model)
    assert same_weights(runs[0], runs[1])
    assert not torch.equal(runs[0].encoder.stem.weight, runs[2].encoder.stem.weight)


def test_each_step_and_each_attack_has_its_own_draw(monkeypatch):
    state = start(learning_rate=1e-30, attack=adv.Linf(8 / 255, 0.0, 1))
    seen = Recorder(monkeypatch, state)
    monkeypatch.setattr(state.optimizer, "step", lambda: state.model.zero_grad())
    step(state), step(state)
    noises = [(begin - base).sign() for base, begin, _ in seen.attacks]
    assert len(noises) == 4
    for i in range(4):
        for j in range(i):
            assert (noises[i] == noises[j]).float().mean() < 0.7
    assert not torch.equal(seen.views[0].view1, seen.views[1].view1)
    assert not torch.equal(seen.views[0].base, seen.views[1].base)


def test_the_state_starts_with_the_methods_branch_and_the_configs_settings():
    assert start("simclr").encoder.branch == "clean"
    assert start("acl").encoder.branch == start("advcl").encoder.branch == "adv"
    state = start(precision="bfloat16", channels_last=True)
    assert state.encoder.precision == torch.bfloat16
    assert state.encoder.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert math.isfinite(step(state)["loss"]) and state.step == 1
    assert updates(state.encoder) == (18, 6, 6)
    trained = sum(len(group["params"]) for group in state.optimizer.param_groups)
    assert trained == len(list(state.model.parameters()))


def test_channels_last_changes_only_rounding():
    plain, last = step(start("simclr")), step(start("simclr", channels_last=True))
    torch.testing.assert_close(plain["loss"], last["loss"], rtol=1e-4, atol=1e-4)


# The loop


KEYS = {"epoch", "step", "loss", "learning_rate", "images_per_second", "seconds", "seconds_left"}


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("simclr", {"contrast"}),
        ("rocl", {"contrast", "adversarial_to_view"}),
        ("acl", {"contrast_clean", "contrast_adv"}),
        ("advcl", {"contrast", "pseudo"}),
    ],
)
def test_a_row_has_the_methods_parts(method, parts):
    state = start(method, attack=QUICK)
    rows = list(adv.pretrain_epochs(state, IMAGES[:32], pseudo(32)))
    assert [set(row) for row in rows] == [KEYS | parts] * 2
    assert [row["epoch"] for row in rows] == [1, 2] and [row["step"] for row in rows] == [2, 4]
    assert rows == state.history and state.step == 4
    assert rows[0]["seconds_left"] > 0 and rows[-1]["seconds_left"] == 0
    assert all(row["images_per_second"] > 0 for row in rows)
    assert all(row["loss"] == pytest.approx(sum(row[part] for part in parts), rel=1e-5) for row in rows)
    assert list(adv.pretrain_epochs(state, IMAGES[:32], pseudo(32))) == []  # the run is over


class FakeStep:
    """A step that trains nothing: it remembers its batches and rates, and its loss is the batch's number."""

    def __init__(self, monkeypatch):
        self.batches, self.rates = [], []
        monkeypatch.setattr(pretrain, "pretrain_step", self)

    def __call__(self, state, images, labels):
        assert images.dtype == torch.uint8
        index = images[:, 0, 0, 0].long()
        if labels is not None:  # image and label travel together
            assert torch.equal(labels, torch.stack([index % 2, index % 5], 1))
        self.batches.append(index.tolist())
        self.rates.append(state.optimizer.param_groups[0]["lr"])
        state.step += 1
        return {"loss": torch.tensor(float(len(self.batches)))}


def numbered(n):
    """Images that carry their own index, and pseudo-labels that follow from it."""
    index = torch.arange(n)
    return index.to(torch.uint8)[:, None, None, None].expand(n, 3, 8, 8), torch.stack([index % 2, index % 5], 1)


@pytest.mark.parametrize(("n", "sizes"), [(40, [16, 16, 8]), (33, [16, 17]), (48, [16, 16, 16]), (9, [9])])
def test_an_epoch_goes_once_through_all_images_in_a_new_order(monkeypatch, n, sizes):
    fake = FakeStep(monkeypatch)
    rows = list(adv.pretrain_epochs(start(epochs=3), *numbered(n)))
    assert [len(batch) for batch in fake.batches] == sizes * 3
    epochs = [sum(fake.batches[k * len(sizes) : (k + 1) * len(sizes)], []) for k in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs} | {tuple(range(n))}) == 4
    # The fake loss of batch b is b; a row holds its mean over images.
    for k, row in enumerate(rows):
        numbers = range(k * len(sizes) + 1, (k + 1) * len(sizes) + 1)
        mean = sum(b * size for b, size in zip(numbers, sizes, strict=True)) / n
        assert row["loss"] == pytest.approx(mean, rel=1e-6)


def test_every_asks_for_a_row_each_so_many_steps_and_at_the_end(monkeypatch):
    FakeStep(monkeypatch)
    rows = list(adv.pretrain_epochs(start(epochs=3), *numbered(40), every=4))
    assert [row["step"] for row in rows] == [4, 8, 9]
    assert [row["loss"] for row in rows][-1] == 9  # only what came since the last row
    assert rows[0]["epoch"] == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    "changes", [{}, {"schedule_by": "step"}, {"warmup_epochs": 2, "warmup_from": 0.001}, {"optimizer": "adamw"}]
)
def test_each_step_has_the_rate_of_its_place_and_the_row_says_it(monkeypatch, changes):
    fake = FakeStep(monkeypatch)
    state = start(epochs=4, **changes)
    rows = list(adv.pretrain_epochs(state, *numbered(40), every=1))
    expected = [adv.learning_rate(state.settings, epoch, batch, 3) for epoch in range(4) for batch in range(3)]
    assert fake.rates == expected == [row["learning_rate"] for row in rows]
    assert len(set(expected)) > 3


@pytest.mark.parametrize(
    ("method", "changes"),
    [("simclr", {}), ("acl", {}), ("advcl", {}), ("advcl", {"optimizer": "adamw", "schedule_by": "step"})],
)
def test_breaking_off_and_going_on_equals_the_uninterrupted_run(method, changes):
    x, labels = IMAGES.x[:40], pseudo(40)
    whole = start(method, attack=QUICK, **changes)
    rows = list(adv.pretrain_epochs(whole, x, labels, every=1))
    broken = start(method, attack=QUICK, **changes)
    while broken.step < 6:
        for row in adv.pretrain_epochs(broken, x, labels, every=1):
            if row["step"] in (1, 2, 4):  # in mid-epoch, twice in the same, and in the next
                break
    assert same_weights(whole.model, broken.model)
    for name in set(rows[0]) - {"images_per_second", "seconds", "seconds_left"}:
        assert [row[name] for row in broken.history] == [row[name] for row in rows], name
    for ours, theirs in zip(whole.optimizer.state.values(), broken.optimizer.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(ours[key]), torch.as_tensor(theirs[key])) for key in theirs)


def test_an_interrupt_between_rows_keeps_the_state():
    x, labels = IMAGES.x[:40], pseudo(40)
    whole, broken = start(attack=QUICK), start(attack=QUICK)
    list(adv.pretrain_epochs(whole, x, labels, every=1))
    with pytest.raises(KeyboardInterrupt):
        for row in adv.pretrain_epochs(broken, x, labels, every=1):
            if row["step"] == 2:
                raise KeyboardInterrupt
    assert broken.step == 2
    list(adv.pretrain_epochs(broken, x, labels))
    assert same_weights(whole.model, broken.model)


def test_an_interrupt_within_a_step_leaves_a_state_that_goes_on(monkeypatch):
    whole, state, calls, pgd = start(attack=QUICK), start(attack=QUICK), [], pretrain.pgd
    expected = list(adv.pretrain_epochs(whole, IMAGES, pseudo()))

    def interrupted(*arguments, generator):
        calls.append(generator)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return pgd(*arguments, generator=generator)

    monkeypatch.setattr(pretrain, "pgd", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(adv.pretrain_epochs(state, IMAGES, pseudo()))
    assert state.step == 2  # the third never finished
    rows = list(adv.pretrain_epochs(state, IMAGES, pseudo()))
    assert calls[4].initial_seed() == calls[5].initial_seed()  # the third is made again, with the same draws
    # The half step moved running statistics, which training does not read: weights and rows are as without it.
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), state.model.parameters(), strict=True))
    assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in expected]


def test_images_and_a_plain_tensor_train_the_same():
    a, b = start("simclr"), start("simclr")
    list(adv.pretrain_epochs(a, IMAGES))
    list(adv.pretrain_epochs(b, IMAGES.x))
    assert same_weights(a.model, b.model)


@pytest.mark.parametrize(
    "labels", [None, torch.zeros(64, 3, dtype=torch.int64), torch.zeros(64, dtype=torch.int64), pseudo(63)]
)
def test_missing_or_misshapen_pseudo_labels_say_what_to_do(labels):
    with pytest.raises(ValueError, match=r"labels: expected pseudo-labels of shape \(64, 2\), got .*adv.pseudo_labels"):
        next(adv.pretrain_epochs(start(), IMAGES, labels))
    with pytest.raises(ValueError, match=r"labels: expected pseudo-labels of shape \(64, 2\)"):
        adv.pretrain_step(start(), IMAGES.x, labels)


def test_no_labels_are_needed_where_none_are_used():
    for state in (start("simclr"), start("acl", attack=QUICK), start(pseudo_weight=0.0, attack=QUICK)):
        assert math.isfinite(next(adv.pretrain_epochs(state, IMAGES))["loss"])


def test_images_of_another_type_raise():
    with pytest.raises(ValueError, match="images: expected uint8 images"):
        next(adv.pretrain_epochs(start("simclr"), adv.to_float(IMAGES.x)))
    with pytest.raises(ValueError, match="images: expected uint8 images"):
        next(adv.pretrain_epochs(start("simclr"), IMAGES.x[0]))


def test_a_loss_that_is_not_finite_stops_the_run_with_advice():
    state = start("simclr", learning_rate=1e30, epochs=5)
    with pytest.raises(FloatingPointError, match="loss: expected a finite number, got .* lower the learning rate"):
        list(adv.pretrain_epochs(state, IMAGES, every=1))
    assert 1 <= state.step <= 5  # at once, not at the end
    assert all(math.isfinite(row["loss"]) for row in state.history)


def test_pseudo_labels_out_of_their_columns_range_are_refused():
    state = adv.PretrainState.start(adv.preset("smoke"))
    images = adv.shapes(64, size=16)
    labels = torch.zeros(64, 3, dtype=torch.int64)
    labels[5, 0] = 2  # the first head has two classes
    with pytest.raises(ValueError, match=r"below \[2, 5, 10\] by column"):
        next(adv.pretrain_epochs(state, images, labels))


def test_a_row_that_an_interrupt_took_comes_when_the_run_goes_on(monkeypatch):
    """The step is counted, and the interrupt falls where the row waits for the device."""
    state, whole = start("simclr"), start("simclr")
    list(adv.pretrain_epochs(whole, IMAGES.x[:32]))
    make_row, broken = _loop._row, []

    def interrupted(running, per_epoch):
        if running.step == 4 and not broken:
            broken.append(True)
            raise KeyboardInterrupt
        return make_row(running, per_epoch)

    monkeypatch.setattr(_loop, "_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(adv.pretrain_epochs(state, IMAGES.x[:32]))
    (row,) = adv.pretrain_epochs(state, IMAGES.x[:32])
    assert row["step"] == 4 and row["seconds_left"] == 0 and row["loss"] == whole.history[-1]["loss"]
    assert [seen["epoch"] for seen in state.history] == [1, 2] and same_weights(state.model, whole.model)
