"""Configs: the release's values and schedule, validation, presets, the diff, and the way through JSON and back."""

import copy
import json
import math
import pickle
from dataclasses import fields, replace

import jaxtyping
import pytest
import torch

import advcl_nb as adv
from advcl_nb._plain import to_plain
from advcl_nb._revive import from_plain
from advcl_nb.config import PROTOCOLS

PAPER = adv.PretrainConfig()


def release_schedule(epoch: int, batch: int) -> float:
    """The reference's section 1.7: 98 batches, a cosine over 1000 epochs, ten epochs of warm-up from 0.01."""
    lowest = 0.5 * 0.1**3
    cosine = lambda e: lowest + (0.5 - lowest) * (1 + math.cos(math.pi * e / 1000)) / 2  # noqa: E731
    if epoch < 10:
        return 0.01 + (batch + epoch * 98) / (10 * 98) * (cosine(10) - 0.01)
    return cosine(epoch + 1)


@pytest.fixture
def unchecked(monkeypatch):
    """Turn the type checks off, so that the library's own errors are seen."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# ---- the learning rate


@pytest.mark.parametrize(
    "epoch, batch, rate",
    [(0, 0, 0.01), (0, 97, 0.0584878), (9, 0, 0.4508891), (9, 97, 0.4993769), (10, 0, 0.4998509), (99, 0, 0.4877764),
     (499, 50, 0.25025), (899, 97, 0.0127236), (999, 0, 0.0005)],
)  # fmt: skip
def test_golden_learning_rates_of_the_release(epoch, batch, rate):
    assert adv.learning_rate(adv.preset("paper").pretrain, epoch, batch, 98) == pytest.approx(rate, abs=5e-8)


def test_the_whole_sequence_of_the_release_to_1e_9():
    config = adv.preset("paper").pretrain
    for epoch in range(1000):
        for batch in range(98) if epoch < 12 else (0, 97):
            assert abs(adv.learning_rate(config, epoch, batch, 98) - release_schedule(epoch, batch)) < 1e-9


def test_by_step_the_cosine_falls_smoothly_to_the_same_end():
    config = replace(PAPER, epochs=5, warmup_epochs=1, schedule_by="step", learning_rate=0.1, warmup_from=0.001)
    rates = [adv.learning_rate(config, epoch, batch, 7) for epoch in range(5) for batch in range(7)]
    top = max(rates)
    assert rates[0] == 0.001 and rates.index(top) == 7
    assert all(a < b for a, b in zip(rates[:7], rates[1:8], strict=True))
    assert all(a > b for a, b in zip(rates[7:-1], rates[8:], strict=True))
    assert rates[-1] == pytest.approx(0.1 * config.final_ratio)
    for k, rate in enumerate(rates[7:], start=8):
        assert rate == pytest.approx(1e-4 + (0.1 - 1e-4) * (1 + math.cos(math.pi * k / 35)) / 2, abs=1e-12)
    by_epoch = replace(config, schedule_by="epoch")
    assert adv.learning_rate(by_epoch, 3, 0, 7) == adv.learning_rate(by_epoch, 3, 6, 7) == rates[4 * 7 - 1]


def test_without_warmup_the_cosine_starts_at_once():
    config = replace(PAPER, warmup_epochs=0)
    lowest = 0.5 * 0.1**3
    expected = lowest + (0.5 - lowest) * (1 + math.cos(math.pi / 1000)) / 2
    assert adv.learning_rate(config, 0, 0, 98) == pytest.approx(expected, abs=1e-12)


def test_fine_tuning_falls_by_a_tenth_at_each_milestone():
    rates = [adv.learning_rate(adv.FinetuneConfig(learning_rate=0.01), epoch, 3, 98) for epoch in range(25)]
    assert rates == pytest.approx([0.01] * 15 + [0.001] * 5 + [0.0001] * 5)
    uneven = adv.FinetuneConfig(learning_rate=1.0, milestones=(1, 3), decay=0.5)
    assert [adv.learning_rate(uneven, epoch, 0, 1) for epoch in range(5)] == [1, 0.5, 0.5, 0.25, 0.25]


# ---- the release's values


def test_the_defaults_are_the_releases():
    assert replace(PAPER, final_ratio=0.0) == adv.PretrainConfig(
        method="advcl", epochs=1000, batch_size=512, optimizer="sgd", learning_rate=0.5, momentum=0.9,
        weight_decay=1e-4, warmup_epochs=10, warmup_from=0.01, final_ratio=0.0, schedule_by="epoch",
        temperature=0.5, contrast_scale=0.5 / 0.07, high_view=True, pseudo_weight=0.2,
        attack=adv.Linf(8 / 255, 2 / 255, 5, "uniform"), attack_mode=None, bn_updates="release",
        views=adv.ViewSettings(), precision="float32", channels_last=False, seed=0,
    )  # fmt: skip
    assert PAPER.final_ratio == pytest.approx(0.1**3)
    assert PAPER.contrast_scale == pytest.approx(7.142857, abs=1e-6)
    assert adv.ModelConfig() == adv.ModelConfig(3, 64, (2, 2, 2, 2), (3, 1), (512, 128), (2, 10, 50, 100, 500))
    assert adv.DataConfig() == adv.DataConfig("cifar10", size=None, train=None, test=None, seed=0)
    assert adv.preset("paper") == adv.Config()


def test_fine_tuning_is_a_mapping_from_protocol_to_its_own_defaults():
    finetune = adv.Config().finetune
    assert tuple(finetune) == PROTOCOLS
    assert all(config.protocol == protocol for protocol, config in finetune.items())
    for config in (finetune["SLF"], finetune["ALF"], finetune["AFF"]):
        assert (config.epochs, config.batch_size, config.milestones, config.decay) == (25, 512, (15, 20), 0.1)
        assert (config.optimizer, config.momentum, config.weight_decay) == ("sgd", 0.9, 2e-4)
        assert (config.attack.epsilon, config.attack.alpha, config.attack.steps) == (8 / 255, 2 / 255, 10)
        assert config.branch is None and config.padding == 4
    assert [finetune[name].learning_rate for name in ("SLF", "ALF", "AFF")] == [0.01, 0.1, 0.1]
    assert finetune["ALF"].loss == "ce" and finetune["ALF"].attack.start == "uniform"
    aff = finetune["AFF"]
    assert (aff.loss, aff.beta, aff.attack.start) == ("trades", 6.0, "gaussian")
    for name in ("CE", "SupCon", "Core", "AdvCore"):  # reference core-tuning.md, section 2
        core = finetune[name]
        assert (core.optimizer, core.learning_rate, core.momentum, core.weight_decay) == ("nesterov", 0.01, 0.9, 1e-4)
        assert (core.epochs, core.batch_size, core.schedule) == (100, 256, "cosine")
        assert (core.eta, core.temperature, core.mixup_alpha, core.contrast_dim) == (0.1, 0.07, 1.0, 256)
        assert core.core_variant == "paper" and core.loss == "ce"
    assert finetune["AdvCore"].attack == finetune["ALF"].attack


def test_the_cosine_of_fine_tuning_is_torchs():
    config = adv.FinetuneConfig("Core", epochs=7, learning_rate=0.3, schedule="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for epoch in range(7):
        for batch in range(3):
            rate = adv.learning_rate(config, epoch, batch, 3)
            assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    "method, branch, mode, labels",
    [
        ("simclr", "clean", "eval", False),
        ("rocl", "clean", "eval", False),
        ("acl", "adv", "eval", False),
        ("advcl", "adv", "train", True),
    ],
)
def test_each_methods_branch_and_attack_mode(method, branch, mode, labels):
    config = replace(PAPER, method=method)
    assert (config.branch, config.attacked_in, config.uses_pseudo_labels) == (branch, mode, labels)
    assert replace(config, attack_mode="eval").attacked_in == "eval"
    assert replace(config, attack_mode="train").attacked_in == "train"
    assert not replace(config, pseudo_weight=0.0).uses_pseudo_labels


# ---- validation


@pytest.mark.parametrize(
    "kind, field, value",
    [(adv.PretrainConfig, "method", "simsiam"), (adv.PretrainConfig, "epochs", 0),
     (adv.PretrainConfig, "batch_size", 1), (adv.PretrainConfig, "optimizer", "adam"),
     (adv.PretrainConfig, "learning_rate", 0.0),
     (adv.PretrainConfig, "learning_rate", float("nan")), (adv.PretrainConfig, "warmup_epochs", -1),
     (adv.PretrainConfig, "high_view", "no"),
     (adv.PretrainConfig, "compile", 1),
     (adv.PretrainConfig, "temperature", 0.0), (adv.PretrainConfig, "pseudo_weight", -0.1),
     (adv.PretrainConfig, "contrast_scale", -1.0), (adv.PretrainConfig, "final_ratio", float("nan")),
     (adv.PretrainConfig, "attack_mode", "test"), (adv.PretrainConfig, "bn_updates", "twice"),
     (adv.PretrainConfig, "schedule_by", "batch"), (adv.PretrainConfig, "precision", "float16"),
     (adv.FinetuneConfig, "protocol", "LP"), (adv.FinetuneConfig, "loss", "mse"), (adv.FinetuneConfig, "branch", "pgd"),
     (adv.FinetuneConfig, "beta", -1.0), (adv.FinetuneConfig, "epochs", 0), (adv.FinetuneConfig, "batch_size", 1),
     (adv.DataConfig, "size", 0), (adv.DataConfig, "train", -1), (adv.DataConfig, "test", 0),
     (adv.PretrainConfig, "epochs", 1.5), (adv.PretrainConfig, "batch_size", 64.0),
     (adv.PretrainConfig, "attack", None), (adv.FinetuneConfig, "attack", 8 / 255),
     (adv.FinetuneConfig, "loss", "trades"), (adv.FinetuneConfig, "eta", -0.1), (adv.FinetuneConfig, "eta", math.inf),
     (adv.FinetuneConfig, "temperature", 0.0), (adv.FinetuneConfig, "mixup_alpha", 0.0),
     (adv.FinetuneConfig, "mixup_alpha", math.nan), (adv.FinetuneConfig, "contrast_dim", 0),
     (adv.FinetuneConfig, "core_variant", "published"), (adv.FinetuneConfig, "pool", "all"),
     (adv.FinetuneConfig, "schedule", "linear"), (adv.FinetuneConfig, "mixing", "no"),
     (adv.FinetuneConfig, "focal", 0.5)],
)  # fmt: skip
def test_configs_are_checked_when_made(kind, field, value, unchecked):
    with pytest.raises(ValueError, match=f"^{field}: expected .*, got "):
        kind(**{field: value})


def test_a_protocol_cannot_carry_anothers_config():
    with pytest.raises(ValueError, match="finetune: expected 'SLF' to name its protocol, got 'ALF'"):
        adv.Config(finetune={"SLF": adv.FinetuneConfig("ALF")})


def test_configs_are_frozen_also_their_mapping():
    config = adv.preset("smoke")
    with pytest.raises(AttributeError):
        config.pretrain.epochs = 3
    with pytest.raises(TypeError):
        config.finetune["SLF"] = adv.FinetuneConfig()
    own = dict(config.finetune)
    made = replace(config, finetune=own)
    own.clear()
    assert made == config


# ---- presets


def test_the_preset_comes_from_the_argument_then_the_environment_then_teach(monkeypatch):
    monkeypatch.setenv("ADVCL_PRESET", "smoke")
    assert adv.preset() == adv.preset("smoke") != adv.preset("teach")
    assert adv.preset("cifar").data.name == "cifar10"
    monkeypatch.delenv("ADVCL_PRESET")
    assert adv.preset() == adv.preset("teach")
    monkeypatch.setenv("ADVCL_PRESET", "tech")
    with pytest.raises(ValueError, match="preset: expected one of smoke, teach, cifar, budget, paper, got 'tech'"):
        adv.preset()


def test_what_the_design_says_of_each_preset():
    assert adv.PRESETS == ("smoke", "teach", "cifar", "budget", "paper")
    smoke, teach, cifar, budget, _ = map(adv.preset, adv.PRESETS)
    assert smoke.data.name == teach.data.name == "shapes" and smoke.data.size == teach.data.size == 16
    assert smoke.data.train <= 500 and smoke.model.cluster_counts == (2, 5, 10)
    assert cifar.data.name == budget.data.name == "cifar10"
    assert budget.model == adv.ModelConfig() and budget.pretrain.precision == "bfloat16"
    assert budget.pretrain.epochs < PAPER.epochs
    for config in map(adv.preset, adv.PRESETS):
        assert tuple(config.finetune) == PROTOCOLS
        assert config.pretrain.attack.epsilon == 8 / 255 and config.pretrain.method == "advcl"


# ---- the diff


def test_a_diff_names_the_fields_that_differ_and_both_values():
    a = adv.Config()
    b = replace(a, pretrain=replace(a.pretrain, epochs=30, views=replace(a.pretrain.views, radius=4.0)))
    lines = [line.split() for line in adv.diff(a, b).splitlines()]
    assert lines == [["pretrain.epochs", "1000", "->", "30"], ["pretrain.views.radius", "8", "->", "4"]]
    assert repr(adv.diff(a, b)) == str(adv.diff(a, b))
    assert adv.diff(a, a) == "no difference"


def test_a_diff_shows_every_part_of_an_attack():
    for change in ({"epsilon": 4 / 255}, {"alpha": 1 / 255}, {"steps": 7}, {"start": "none"}):
        changed = replace(PAPER, attack=replace(PAPER.attack, **change))
        (line,) = adv.diff(adv.Config(), adv.Config(pretrain=changed)).splitlines()
        left, right = line.removeprefix("pretrain.attack").split("->")
        assert left.strip() != right.strip()


def test_a_diff_names_protocols_that_only_one_has():
    a = adv.Config()
    b = replace(a, finetune={"SLF": a.finetune["SLF"]})
    assert {line.split(".")[1] for line in adv.diff(a, b).splitlines()} == set(PROTOCOLS) - {"SLF"}


def test_a_config_prints_one_field_a_line():
    lines = repr(adv.Config()).splitlines()
    assert "pretrain.epochs = 1000" in lines and "finetune.AFF.beta = 6.0" in lines
    assert "data.name = 'cifar10'" in lines and "pretrain.views.hue = 0.1" in lines


# ---- copies


def every_config() -> list[adv.Config]:
    l2 = replace(PAPER, attack=adv.L2(0.5, 0.1, 3, "none"))
    return [*map(adv.preset, adv.PRESETS), adv.Config(pretrain=l2, finetune={})]


@pytest.mark.parametrize("config", every_config(), ids=[*adv.PRESETS, "l2"])
def test_a_config_goes_through_json_and_back(config):
    assert from_plain(adv.Config, json.loads(json.dumps(to_plain(config)))) == config


@pytest.mark.parametrize("config", every_config(), ids=[*adv.PRESETS, "l2"])
def test_a_config_can_be_copied_and_pickled(config):
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config and repr(twin) == repr(config)
        with pytest.raises(TypeError):
            twin.finetune["SLF"] = None


def test_every_field_survives():
    for kind in (adv.DataConfig, adv.ModelConfig, adv.PretrainConfig, adv.FinetuneConfig, adv.ViewSettings):
        assert set(to_plain(kind())) == {field.name for field in fields(kind)}
        assert from_plain(kind, to_plain(kind())) == kind()


def test_foreign_fields_raise(unchecked):
    plain = to_plain(adv.Config())
    without = {name: part for name, part in plain.items() if name != "data"}
    extra = plain | {"model": plain["model"] | {"depth": 3}}
    attack = plain["pretrain"]["attack"]
    attacks = [attack | {"norm": "L1"}, attack | {"size": 1}, {"norm": "Linf"}]
    wrong = [plain | {"pretrain": plain["pretrain"] | {"attack": value}} for value in attacks]
    for damaged in (without, extra, plain | {"data": 5}, *wrong):
        with pytest.raises(ValueError, match="expected"):
            from_plain(adv.Config, damaged)


def test_an_older_file_takes_the_defaults_of_later_fields():
    later = {"schedule", "core_variant", "eta", "temperature", "mixup_alpha", "contrast_dim", "pool", "mixing"}
    later |= {"hard_pairs", "focal", "smooth_classifier"}
    plain = {name: part for name, part in to_plain(adv.FinetuneConfig("SLF", epochs=3)).items() if name not in later}
    assert from_plain(adv.FinetuneConfig, plain) == adv.FinetuneConfig("SLF", epochs=3)
    del plain["epochs"]
    with pytest.raises(ValueError, match="FinetuneConfig: expected the fields"):
        from_plain(adv.FinetuneConfig, plain)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="hard_pairs: expected True for the release"):
        adv.FinetuneConfig("Core", core_variant="release", hard_pairs=False)
    with pytest.raises(ValueError, match="momentum: expected a positive number for nesterov, got 0"):
        adv.FinetuneConfig("Core", optimizer="nesterov", momentum=0.0)
