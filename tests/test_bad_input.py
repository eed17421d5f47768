"""Bad input to every public function: a ValueError, TypeError or OSError that says what was expected and what came.

The calls are made in one process without the run-time type checks of these tests, for a reader has none.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

import advcl_nb as adv

HERE = Path(__file__).resolve()
MODEL = adv.ModelConfig(width=4, blocks=(1, 1), projector=(16, 8), cluster_counts=(2, 5))
QUICK = adv.Linf(8 / 255, 4 / 255, 1)
ADVCL = adv.PretrainConfig(epochs=1, batch_size=16, attack=QUICK, views=adv.ViewSettings(padding=2, radius=4.0))
CONFIG = adv.Config(data=adv.DataConfig("shapes", size=16), model=MODEL, pretrain=ADVCL)
IMAGES = adv.shapes(32, size=16)
X, Y = adv.to_float(IMAGES.x), IMAGES.y
PSEUDO = torch.stack([torch.arange(32) % count for count in MODEL.cluster_counts], 1)
ARRAY = X.numpy()
NAN, GREY = torch.full_like(X, torch.nan), IMAGES.x[:, :1]
ROWS = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
UNIT = torch.nn.functional.normalize(ROWS, dim=1)
LOGITS = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
SETTINGS = adv.ViewSettings()
SCORE = adv.Score("SA", 5, 10)
NOWHERE = Path("no folder") / "none.pt"
UNDER_A_FILE = HERE / "run.pt"  # no one can write there, root neither


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


ENCODER = adv.build_model(MODEL, generator=gen()).encoder
CLASSIFIER = adv.Classifier(ENCODER, 10, generator=gen())
VIEW_DRAW = adv.draw_views(32, 16, 16, SETTINGS, generator=gen())
MIXING = adv.draw_mixing(32, generator=gen())
FLIPS = torch.zeros(32, dtype=torch.bool)
BOXES = torch.tensor([0, 0, 16, 16]).repeat(32, 1)
FACTORS, ORDER = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(32, 1), torch.arange(4).repeat(32, 1)
HISTORY = [{"epoch": 1.0, "step": 2, "loss": 1.0}]


def pretraining(**changes) -> adv.PretrainState:
    return adv.PretrainState.start(adv.Config(model=MODEL, pretrain=ADVCL, **changes))


def tuning() -> adv.FinetuneState:
    return adv.FinetuneState.start(adv.FinetuneConfig(epochs=1, batch_size=16, attack=QUICK), ENCODER, 10)


def total(x: torch.Tensor) -> torch.Tensor:
    return x.sum()


def card(**changes) -> adv.Card:
    made = adv.make_card(CONFIG, "SLF", [SCORE], seconds=1.0, checkpoint=None)
    return adv.Card(**{name: getattr(made, name) for name in made.__dataclass_fields__} | changes)


def text_file(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("<html>Not found</html>")
    return path


CASES = {
    # images and views
    "high_pass": {
        "one image": lambda: adv.high_pass(X[0], 4.0),
        "uint8": lambda: adv.high_pass(IMAGES.x, 4.0),
        "array": lambda: adv.high_pass(ARRAY, 4.0),
        "negative radius": lambda: adv.high_pass(X, -1.0),
        "NaN radius": lambda: adv.high_pass(X, float("nan")),
        "radius in words": lambda: adv.high_pass(X, "8"),
        "no pixels": lambda: adv.high_pass(X[..., :0], 4.0),
    },
    "low_pass": {
        "one image": lambda: adv.low_pass(X[0], 4.0),
        "array": lambda: adv.low_pass(ARRAY, 4.0),
        "negative radius": lambda: adv.low_pass(X, -1.0),
    },
    "radial_mask": {
        "negative radius": lambda: adv.radial_mask(8, 8, -1.0),
        "negative size": lambda: adv.radial_mask(-8, 8, 1.0),
        "no radius": lambda: adv.radial_mask(8, 8, None),
    },
    "radial_spectrum": {
        "one image": lambda: adv.radial_spectrum(X[0]),
        "uint8": lambda: adv.radial_spectrum(IMAGES.x),
        "no pixels": lambda: adv.radial_spectrum(X[:, :, :0]),
    },
    "fourier_basis": {
        "negative size": lambda: adv.fourier_basis(-8, 8, 1, 1),
        "half a cycle": lambda: adv.fourier_basis(8, 8, 0.5, 1),
    },
    "to_float": {
        "array": lambda: adv.to_float(IMAGES.x.numpy()),
        "Images": lambda: adv.to_float(IMAGES),
        "int64": lambda: adv.to_float(IMAGES.x.long()),
    },
    "ViewSettings": {
        "crop over the whole": lambda: adv.ViewSettings(crop_scale=(0.2, 1.5)),
        "crop upside down": lambda: adv.ViewSettings(crop_scale=(0.9, 0.2)),
        "one number for a range": lambda: adv.ViewSettings(crop_scale=0.2),
        "ratio of zero": lambda: adv.ViewSettings(crop_ratio=(0.0, 1.0)),
        "probability over 1": lambda: adv.ViewSettings(flip=2.0),
        "hue over half a turn": lambda: adv.ViewSettings(hue=0.7),
        "NaN": lambda: adv.ViewSettings(jitter=float("nan")),
        "negative padding": lambda: adv.ViewSettings(padding=-1),
        "half a pixel": lambda: adv.ViewSettings(padding=1.5),
        "negative radius": lambda: adv.ViewSettings(radius=-1.0),
        "words": lambda: adv.ViewSettings(grey="often"),
    },
    "draw_views": {
        "negative count": lambda: adv.draw_views(-1, 16, 16, SETTINGS, generator=gen()),
        "no height": lambda: adv.draw_views(4, 0, 16, SETTINGS, generator=gen()),
        "no generator": lambda: adv.draw_views(4, 16, 16, SETTINGS, generator=None),
        "settings as a dict": lambda: adv.draw_views(4, 16, 16, {}, generator=gen()),
    },
    "make_views": {
        "uint8": lambda: adv.make_views(IMAGES.x, VIEW_DRAW),
        "one image": lambda: adv.make_views(X[0], VIEW_DRAW),
        "other number": lambda: adv.make_views(X[:5], VIEW_DRAW),
        "array": lambda: adv.make_views(ARRAY, VIEW_DRAW),
        "two channels": lambda: adv.make_views(X[:, :2], VIEW_DRAW),
        "no draw": lambda: adv.make_views(X, SETTINGS),
    },
    "resized_crop": {
        "one image": lambda: adv.resized_crop(X[0], BOXES),
        "other number": lambda: adv.resized_crop(X, BOXES[:5]),
        "array of boxes": lambda: adv.resized_crop(X, BOXES.numpy()),
    },
    "padded_crop": {
        "other number": lambda: adv.padded_crop(X, BOXES[:5, :2], 2),
        "negative padding": lambda: adv.padded_crop(X, BOXES[:, :2], -2),
        "float offsets": lambda: adv.padded_crop(X, BOXES[:, :2].float(), 2),
    },
    "flip": {
        "one image": lambda: adv.flip(X[0], FLIPS),
        "numbers": lambda: adv.flip(X, FLIPS.float()),
        "other number": lambda: adv.flip(X, FLIPS[:5]),
    },
    "color_jitter": {
        "two channels": lambda: adv.color_jitter(X[:, :2], FACTORS, ORDER),
        "other number": lambda: adv.color_jitter(X, FACTORS[:5], ORDER),
        "order of three": lambda: adv.color_jitter(X, FACTORS, ORDER[:, :3]),
        "uint8": lambda: adv.color_jitter(IMAGES.x, FACTORS, ORDER),
    },
    "to_grey": {
        "two channels": lambda: adv.to_grey(X[:, :2], FLIPS),
        "numbers": lambda: adv.to_grey(X, FLIPS.float()),
        "other number": lambda: adv.to_grey(X, FLIPS[:5]),
    },
    "corrupt": {
        "unknown name": lambda: adv.corrupt(X, "rust", 1, generator=gen()),
        "severity 6": lambda: adv.corrupt(X, "fog", 6, generator=gen()),
        "severity in words": lambda: adv.corrupt(X, "fog", "strong", generator=gen()),
        "grey levels": lambda: adv.corrupt(255 * X, "fog", 1, generator=gen()),
        "NaN": lambda: adv.corrupt(NAN, "fog", 1, generator=gen()),
        "no generator": lambda: adv.corrupt(X, "fog", 1, generator=0),
    },
    # losses and mixing
    "multi_view_nt_xent": {
        "one view": lambda: adv.multi_view_nt_xent(UNIT[None], 0.5),
        "no view": lambda: adv.multi_view_nt_xent([], 0.5),
        "mismatched views": lambda: adv.multi_view_nt_xent([UNIT, UNIT[:5]], 0.5),
        "temperature 0": lambda: adv.multi_view_nt_xent([UNIT, UNIT], 0.0),
        "rank": lambda: adv.multi_view_nt_xent(UNIT, 0.5),
        "array": lambda: adv.multi_view_nt_xent(np.zeros((2, 4, 8)), 0.5),
        "whole numbers": lambda: adv.multi_view_nt_xent([PSEUDO, PSEUDO], 0.5),
    },
    "supervised_contrastive": {
        "mismatched lengths": lambda: adv.supervised_contrastive(UNIT, Y[:5], 0.5),
        "temperature below 0": lambda: adv.supervised_contrastive(UNIT, Y, -1.0),
        "NaN": lambda: adv.supervised_contrastive(UNIT * torch.nan, Y, 0.5),
        "labels as a list": lambda: adv.supervised_contrastive(UNIT, Y.tolist(), 0.5),
    },
    "focal_contrastive": {
        "unknown normalization": lambda: adv.focal_contrastive(UNIT, Y, 0.5, normalize="all"),
        "gamma of a half": lambda: adv.focal_contrastive(UNIT, Y, 0.5, gamma=0.5),
        "mismatched lengths": lambda: adv.focal_contrastive(UNIT, Y[:5], 0.5),
        "rank": lambda: adv.focal_contrastive(UNIT[None], Y[:1], 0.5),
        "array": lambda: adv.focal_contrastive(UNIT.numpy(), Y, 0.5),
        "infinite": lambda: adv.focal_contrastive(UNIT / 0, Y, 0.5),
    },
    "pseudo_label_loss": {
        "too few heads": lambda: adv.pseudo_label_loss([LOGITS], PSEUDO),
        "one column": lambda: adv.pseudo_label_loss([LOGITS], PSEUDO[:, 0]),
        "labels beyond the head": lambda: adv.pseudo_label_loss([LOGITS, LOGITS], PSEUDO + 10),
        "mismatched lengths": lambda: adv.pseudo_label_loss([LOGITS, LOGITS], PSEUDO[:5]),
    },
    "trades_loss": {
        "other shape": lambda: adv.trades_loss(LOGITS, LOGITS[:, :5], Y, 6.0),
        "mismatched lengths": lambda: adv.trades_loss(LOGITS, LOGITS, Y[:5], 6.0),
        "labels beyond the logits": lambda: adv.trades_loss(LOGITS, LOGITS, Y + 10, 6.0),
        "float labels": lambda: adv.trades_loss(LOGITS, LOGITS, Y.float(), 6.0),
    },
    "kl_divergence": {
        "other shape": lambda: adv.kl_divergence(LOGITS, LOGITS[:5]),
        "array": lambda: adv.kl_divergence(LOGITS.numpy(), LOGITS.numpy()),
    },
    "draw_mixing": {
        "no rows": lambda: adv.draw_mixing(0, generator=gen()),
        "alpha 0": lambda: adv.draw_mixing(4, 0.0, generator=gen()),
        "NaN alpha": lambda: adv.draw_mixing(4, float("nan"), generator=gen()),
        "a seed for a generator": lambda: adv.draw_mixing(4, generator=0),
    },
    "mix_hard_pairs": {
        "unknown rule": lambda: adv.mix_hard_pairs(ROWS, Y, MIXING, rule="hardest"),
        "draw of another batch": lambda: adv.mix_hard_pairs(ROWS[:5], Y[:5], MIXING),
        "mismatched lengths": lambda: adv.mix_hard_pairs(ROWS, Y[:5], MIXING),
        "NaN": lambda: adv.mix_hard_pairs(ROWS * torch.nan, Y, MIXING),
        "too few classes": lambda: adv.mix_hard_pairs(ROWS, Y, MIXING, classes=3),
        "array": lambda: adv.mix_hard_pairs(ROWS.numpy(), Y, MIXING),
    },
    # attacks
    "Linf": {
        "grey levels": lambda: adv.Linf(8, 2 / 255, 10),
        "alpha in grey levels": lambda: adv.Linf(8 / 255, 2, 10),
        "negative epsilon": lambda: adv.Linf(-0.1, 0.1, 10),
        "negative steps": lambda: adv.Linf(0.1, 0.1, -1),
        "half a step": lambda: adv.Linf(0.1, 0.1, 1.5),
        "NaN": lambda: adv.Linf(float("nan"), 0.1, 1),
        "unknown start": lambda: adv.Linf(0.1, 0.1, 1, start="random"),
        "words": lambda: adv.Linf("8/255", 2 / 255, 1),
    },
    "L2": {
        "negative epsilon": lambda: adv.L2(-0.1, 0.1, 10),
        "infinite": lambda: adv.L2(float("inf"), 0.1, 10),
        "no alpha": lambda: adv.L2(0.5, None, 10),
    },
    "pgd": {
        "one image": lambda: adv.pgd(total, X[0], QUICK, generator=gen()),
        "uint8": lambda: adv.pgd(total, IMAGES.x, QUICK, generator=gen()),
        "array": lambda: adv.pgd(total, ARRAY, QUICK, generator=gen()),
        "a loss for each image": lambda: adv.pgd(lambda x: x.sum((1, 2, 3)), X, QUICK, generator=gen()),
        "a detached loss": lambda: adv.pgd(lambda x: x.detach().sum(), X, QUICK, generator=gen()),
        "a number for a loss": lambda: adv.pgd(lambda x: 1.0, X, QUICK, generator=gen()),
        "no generator": lambda: adv.pgd(total, X, QUICK, generator=None),
        "epsilon for a threat": lambda: adv.pgd(total, X, 8 / 255, generator=gen()),
        "swapped": lambda: adv.pgd(X, total, QUICK, generator=gen()),
    },
    "pgd_path": {
        "one image": lambda: list(adv.pgd_path(total, X[0], QUICK, generator=gen())),
        "no generator": lambda: list(adv.pgd_path(total, X, QUICK, generator=None)),
        "epsilon for a threat": lambda: list(adv.pgd_path(total, X, 0.1, generator=gen())),
    },
    # models
    "ModelConfig": {
        "no channel": lambda: adv.ModelConfig(channels=0),
        "half a width": lambda: adv.ModelConfig(width=1.5),
        "no stage": lambda: adv.ModelConfig(blocks=()),
        "one number for blocks": lambda: adv.ModelConfig(blocks=2),
        "stem of one": lambda: adv.ModelConfig(stem=(3,)),
        "cluster of one": lambda: adv.ModelConfig(cluster_counts=(1, 5)),
        "words": lambda: adv.ModelConfig(projector=("wide", 8)),
    },
    "Encoder": {
        "dict": lambda: adv.Encoder({"width": 4}),
        "unknown branch": lambda: adv.Encoder(MODEL, "normal"),
        "unknown branch in a call": lambda: ENCODER(X, "pgd"),
    },
    "AdvCLModel": {"dict": lambda: adv.AdvCLModel({"width": 4}), "preset": lambda: adv.AdvCLModel(CONFIG)},
    "Classifier": {
        "one class": lambda: adv.Classifier(ENCODER, 1, generator=gen()),
        "class names": lambda: adv.Classifier(ENCODER, IMAGES.classes, generator=gen()),
        "another model": lambda: adv.Classifier(torch.nn.Linear(2, 2), 10, generator=gen()),
        "unknown branch": lambda: adv.Classifier(ENCODER, 10, generator=gen(), branch="pgd"),
        "a seed for a generator": lambda: adv.Classifier(ENCODER, 10, generator=0),
    },
    "build_model": {
        "preset": lambda: adv.build_model(CONFIG, generator=gen()),
        "no generator": lambda: adv.build_model(MODEL, generator=None),
    },
    # settings
    "DataConfig": {
        "no images": lambda: adv.DataConfig("shapes", train=0),
        "half an image": lambda: adv.DataConfig("shapes", train=1.5),
        "a path for a name": lambda: adv.DataConfig("../cifar10"),
        "negative size": lambda: adv.DataConfig("shapes", size=-16),
    },
    "PretrainConfig": {
        "unknown method": lambda: adv.PretrainConfig(method="moco"),
        "no epoch": lambda: adv.PretrainConfig(epochs=0),
        "batch of one": lambda: adv.PretrainConfig(batch_size=1),
        "negative rate": lambda: adv.PretrainConfig(learning_rate=-0.1),
        "rate in words": lambda: adv.PretrainConfig(learning_rate="0.1"),
        "temperature 0": lambda: adv.PretrainConfig(temperature=0.0),
        "negative weight": lambda: adv.PretrainConfig(pseudo_weight=-1.0),
        "NaN weight": lambda: adv.PretrainConfig(contrast_scale=float("nan")),
        "unknown precision": lambda: adv.PretrainConfig(precision="float16"),
        "attack as epsilon": lambda: adv.PretrainConfig(attack=8 / 255),
        "views as a dict": lambda: adv.PretrainConfig(views={}),
        "seed in words": lambda: adv.PretrainConfig(seed="zero"),
        "negative decay": lambda: adv.PretrainConfig(weight_decay=-1.0),
    },
    "FinetuneConfig": {
        "unknown protocol": lambda: adv.FinetuneConfig("LP"),
        "TRADES for SLF": lambda: adv.FinetuneConfig("SLF", loss="trades"),
        "unknown branch": lambda: adv.FinetuneConfig(branch="pgd"),
        "infinite beta": lambda: adv.FinetuneConfig("AFF", beta=float("inf")),
        "words for a switch": lambda: adv.FinetuneConfig(standardize="yes"),
        "negative padding": lambda: adv.FinetuneConfig(padding=-4),
        "one milestone as a number": lambda: adv.FinetuneConfig(milestones=15),
        "decay below 0": lambda: adv.FinetuneConfig(decay=-0.1),
    },
    "Config": {
        "wrong name for a protocol": lambda: adv.Config(finetune={"AFF": adv.FinetuneConfig("SLF")}),
        "settings in a dict": lambda: adv.Config(pretrain={"epochs": 3}),
        "one protocol alone": lambda: adv.Config(finetune=adv.FinetuneConfig()),
    },
    "preset": {"unknown": lambda: adv.preset("papper"), "number": lambda: adv.preset(3)},
    "diff": {"words": lambda: adv.diff("teach", "paper"), "no config": lambda: adv.diff(CONFIG, None)},
    "learning_rate": {
        "no batches": lambda: adv.learning_rate(ADVCL, 0, 0, 0),
        "negative epoch": lambda: adv.learning_rate(ADVCL, -1, 0, 1),
        "preset": lambda: adv.learning_rate(CONFIG, 0, 0, 1),
    },
    "Streams": {
        "unknown stream": lambda: adv.Streams(0)("dropout"),
        "seed in words": lambda: adv.Streams("zero"),
    },
    # data
    "Images": {
        "floats": lambda: adv.Images(X, Y, IMAGES.classes),
        "one image": lambda: adv.Images(IMAGES.x[0], Y, IMAGES.classes),
        "mismatched lengths": lambda: adv.Images(IMAGES.x, Y[:5], IMAGES.classes),
        "int32 labels": lambda: adv.Images(IMAGES.x, Y.int(), IMAGES.classes),
        "label beyond the classes": lambda: adv.Images(IMAGES.x, Y, IMAGES.classes[:3]),
        "array": lambda: adv.Images(IMAGES.x.numpy(), Y, IMAGES.classes),
        "array of labels": lambda: adv.Images(IMAGES.x, Y.numpy(), IMAGES.classes),
        "floats from arrays": lambda: adv.Images.from_arrays(ARRAY, Y.numpy()),
        "float labels from arrays": lambda: adv.Images.from_arrays(IMAGES.x, Y.float()),
        "words from arrays": lambda: adv.Images.from_arrays("cifar10"),
        "missing folder": lambda: adv.Images.from_folder("no folder"),
        "negative size of a folder": lambda: adv.Images.from_folder(".", size=-1),
        "subset too large": lambda: IMAGES.subset(33, seed=0),
        "subset in words": lambda: IMAGES.subset("all", seed=0),
        "unknown device": lambda: IMAGES.to("gpu"),
    },
    "ShapeSettings": {
        "contrast over the limit": lambda: adv.ShapeSettings(contrast=0.7),
        "unknown cue": lambda: adv.ShapeSettings(cue="middle"),
        "cue in grey levels": lambda: adv.ShapeSettings(cue_amplitude=4),
        "one number for a range": lambda: adv.ShapeSettings(fill=0.75),
        "words": lambda: adv.ShapeSettings(noise="some"),
    },
    "shapes": {
        "no images": lambda: adv.shapes(0),
        "too small": lambda: adv.shapes(4, size=4),
        "unknown split": lambda: adv.shapes(4, split="validation"),
        "count in words": lambda: adv.shapes("4"),
        "half a pixel": lambda: adv.shapes(4, size=16.5),
        "settings as a dict": lambda: adv.shapes(4, {}),
    },
    "load_images": {
        "unknown set": lambda: adv.load_images("imagenet", "train"),
        "unknown split": lambda: adv.load_images("cifar10", "unlabeled"),
        "missing files": lambda: adv.load_images("cifar10", "train", root="no folder"),
        "negative count": lambda: adv.load_images("shapes", "train", count=-1),
        "too many": lambda: adv.load_images("digits", "test", count=10**6),
        "negative size": lambda: adv.load_images("digits", "test", size=-1),
    },
    "load_data": {
        "preset": lambda: adv.load_data(CONFIG),
        "a set of your own": lambda: adv.load_data(adv.DataConfig("mine")),
    },
    "batches": {
        "no images": lambda: adv.batches(0, 4, generator=None),
        "batch of one": lambda: adv.batches(4, 1, generator=None),
        "words": lambda: adv.batches(4, "2", generator=None),
        "a seed for a generator": lambda: adv.batches(4, 2, generator=0),
    },
    "own_corruptions": {
        "mismatched lengths": lambda: list(adv.own_corruptions(X, Y[:5], generator=gen())),
        "array": lambda: list(adv.own_corruptions(ARRAY, Y, generator=gen())),
        "no generator": lambda: next(adv.own_corruptions(X, Y, generator=None)),
    },
    "load_corruptions": {
        "unknown set": lambda: list(adv.load_corruptions("stl10")),
        "missing files": lambda: list(adv.load_corruptions(root="no folder")),
    },
    # clustering and features
    "pseudo_labels": {
        "more clusters than rows": lambda: adv.pseudo_labels(ROWS, (2, 33), seed=0),
        "no K": lambda: adv.pseudo_labels(ROWS, (), seed=0),
        "one number for counts": lambda: adv.pseudo_labels(ROWS, 5, seed=0),
        "NaN": lambda: adv.pseudo_labels(ROWS * torch.nan, (2,), seed=0),
        "array": lambda: adv.pseudo_labels(ROWS.numpy(), (2,), seed=0),
        "seed in words": lambda: adv.pseudo_labels(ROWS, (2,), seed="zero"),
    },
    "cluster_quality": {
        "mismatched lengths": lambda: adv.cluster_quality(PSEUDO[:, 0], Y[:5]),
        "unlabelled": lambda: adv.cluster_quality(PSEUDO[:, 0], Y - 1),
        "all columns": lambda: adv.cluster_quality(PSEUDO, PSEUDO),
        "floats": lambda: adv.cluster_quality(PSEUDO[:, 0].float(), Y),
        "empty": lambda: adv.cluster_quality(Y[:0], Y[:0]),
    },
    "extract_features": {
        "classifier": lambda: adv.extract_features(CLASSIFIER, X),
        "Images": lambda: adv.extract_features(ENCODER, IMAGES),
        "other channels": lambda: adv.extract_features(ENCODER, GREY),
        "channels last": lambda: adv.extract_features(ENCODER, X.permute(0, 2, 3, 1)),
        "grey levels": lambda: adv.extract_features(ENCODER, 255 * X),
        "double precision": lambda: adv.extract_features(ENCODER, X.double()),
        "unknown branch": lambda: adv.extract_features(ENCODER, X, branch="pgd"),
        "NaN": lambda: adv.extract_features(ENCODER, NAN),
        "empty": lambda: adv.extract_features(ENCODER, X[:0]),
    },
    "layer_features": {
        "classifier": lambda: adv.layer_features(CLASSIFIER, X),
        "other channels": lambda: adv.layer_features(ENCODER, GREY),
        "array": lambda: adv.layer_features(ENCODER, ARRAY),
    },
    "class_scatter": {
        "mismatched lengths": lambda: adv.class_scatter(ROWS, Y[:5]),
        "one class": lambda: adv.class_scatter(ROWS, 0 * Y),
        "array": lambda: adv.class_scatter(ROWS.numpy(), Y),
        "labels as a list": lambda: adv.class_scatter(ROWS, Y.tolist()),
    },
    "knn_accuracy": {
        "k over the rows": lambda: adv.knn_accuracy(ROWS, Y, ROWS, Y, k=33),
        "k of 0": lambda: adv.knn_accuracy(ROWS, Y, ROWS, Y, k=0),
        "other width": lambda: adv.knn_accuracy(ROWS, Y, ROWS[:, :4], Y, k=1),
        "mismatched lengths": lambda: adv.knn_accuracy(ROWS, Y[:5], ROWS, Y, k=1),
        "array of labels": lambda: adv.knn_accuracy(ROWS, Y.numpy(), ROWS, Y, k=1),
    },
    "linear_cka": {
        "mismatched lengths": lambda: adv.linear_cka(ROWS, ROWS[:5]),
        "half precision": lambda: adv.linear_cka(ROWS.half(), ROWS.half()),
        "collapsed": lambda: adv.linear_cka(ROWS, torch.ones(32, 2)),
        "array": lambda: adv.linear_cka(ROWS.numpy(), ROWS.numpy()),
    },
    "alignment": {
        "other shape": lambda: adv.alignment(ROWS, ROWS[:5]),
        "list": lambda: adv.alignment(ROWS.tolist(), ROWS.tolist()),
    },
    "uniformity": {
        "one row": lambda: adv.uniformity(ROWS[:1]),
        "t of 0": lambda: adv.uniformity(ROWS, t=0.0),
        "t in words": lambda: adv.uniformity(ROWS, t="2"),
    },
    "embed_2d": {
        "unknown method": lambda: adv.embed_2d(ROWS, method="mds", seed=0),
        "too few": lambda: adv.embed_2d(ROWS[:3], method="pca", seed=0),
        "t-SNE with more": lambda: adv.embed_2d(ROWS, method="tsne", seed=0, also=ROWS),
        "other width": lambda: adv.embed_2d(ROWS, method="pca", seed=0, also=ROWS[:, :4]),
        "array": lambda: adv.embed_2d(ROWS.numpy(), method="pca", seed=0),
        "seed in words": lambda: adv.embed_2d(ROWS, method="pca", seed="zero"),
    },
    "invert_features": {
        "mismatched lengths": lambda: adv.invert_features(ENCODER, ROWS, X[:5], steps=1, alpha=0.1),
        "classifier": lambda: adv.invert_features(CLASSIFIER, ROWS, X, steps=1, alpha=0.1),
        "negative steps": lambda: adv.invert_features(ENCODER, ROWS, X, steps=-1, alpha=0.1),
        "uint8": lambda: adv.invert_features(ENCODER, ROWS, IMAGES.x, steps=1, alpha=0.1),
        "array": lambda: adv.invert_features(ENCODER, ROWS.numpy(), X, steps=1, alpha=0.1),
    },
    # runs
    "PretrainState": {
        "part of a config": lambda: adv.PretrainState.start(ADVCL),
        "unknown device": lambda: adv.PretrainState.start(CONFIG, device="gpu"),
    },
    "pretrain_step": {
        "floats": lambda: adv.pretrain_step(pretraining(), X, PSEUDO),
        "one image": lambda: adv.pretrain_step(pretraining(), IMAGES.x[0], PSEUDO),
        "array": lambda: adv.pretrain_step(pretraining(), IMAGES.x.numpy(), PSEUDO),
        "no pseudo-labels": lambda: adv.pretrain_step(pretraining(), IMAGES.x),
        "mismatched lengths": lambda: adv.pretrain_step(pretraining(), IMAGES.x, PSEUDO[:5]),
        "other channels": lambda: adv.pretrain_step(pretraining(), GREY, PSEUDO),
        "array of labels": lambda: adv.pretrain_step(pretraining(), IMAGES.x, PSEUDO.numpy()),
        "a batch of one": lambda: adv.pretrain_step(pretraining(), IMAGES.x[:1], PSEUDO[:1]),
        "a config for a state": lambda: adv.pretrain_step(CONFIG, IMAGES.x, PSEUDO),
    },
    "pretrain_epochs": {
        "label beyond its K": lambda: list(adv.pretrain_epochs(pretraining(), IMAGES, PSEUDO + 1)),
        "float labels": lambda: list(adv.pretrain_epochs(pretraining(), IMAGES, PSEUDO.float())),
        "class labels": lambda: list(adv.pretrain_epochs(pretraining(), IMAGES, Y)),
        "floats": lambda: list(adv.pretrain_epochs(pretraining(), X, PSEUDO)),
        "every 0": lambda: list(adv.pretrain_epochs(pretraining(), IMAGES, PSEUDO, every=0)),
        "every in words": lambda: list(adv.pretrain_epochs(pretraining(), IMAGES, PSEUDO, every="epoch")),
        "folder": lambda: list(adv.pretrain_epochs(pretraining(), "data", PSEUDO)),
    },
    "FinetuneState": {
        "whole config": lambda: adv.FinetuneState.start(CONFIG, ENCODER, 10),
        "whole model": lambda: adv.FinetuneState.start(adv.FinetuneConfig(), CLASSIFIER, 10),
        "one class": lambda: adv.FinetuneState.start(adv.FinetuneConfig(), ENCODER, 1),
        "unknown device": lambda: adv.FinetuneState.start(adv.FinetuneConfig(), ENCODER, 10, device="gpu"),
    },
    "finetune_step": {
        "floats": lambda: adv.finetune_step(tuning(), X, Y),
        "mismatched lengths": lambda: adv.finetune_step(tuning(), IMAGES.x, Y[:5]),
        "label beyond the classes": lambda: adv.finetune_step(tuning(), IMAGES.x, Y + 10),
        "float labels": lambda: adv.finetune_step(tuning(), IMAGES.x, Y.float()),
        "array of labels": lambda: adv.finetune_step(tuning(), IMAGES.x, Y.numpy()),
        "other channels": lambda: adv.finetune_step(tuning(), GREY, Y),
    },
    "finetune_epochs": {
        "tensor": lambda: list(adv.finetune_epochs(tuning(), IMAGES.x)),
        "other channels": lambda: list(adv.finetune_epochs(tuning(), adv.Images(GREY, Y, IMAGES.classes))),
        "unlabelled": lambda: list(adv.finetune_epochs(tuning(), adv.Images(IMAGES.x, 0 * Y - 1, IMAGES.classes))),
        "no images": lambda: list(adv.finetune_epochs(tuning(), IMAGES[:0])),
        "every -1": lambda: list(adv.finetune_epochs(tuning(), IMAGES, every=-1)),
        "a pretraining state": lambda: list(adv.finetune_epochs(pretraining(), IMAGES)),
    },
    # evaluation
    "Score": {
        "unknown metric": lambda: adv.Score("accuracy", 1, 2),
        "more right than there are": lambda: adv.Score("SA", 3, 2),
        "no images": lambda: adv.Score("SA", 0, 0),
        "a fraction": lambda: adv.Score("SA", 0.5, 1),
        "words": lambda: adv.Score("SA", "5", 10),
    },
    "AutoAttackScore": {"more right than there are": lambda: adv.AutoAttackScore("AA", 3, 2)},
    "standard_accuracy": {
        "state": lambda: adv.standard_accuracy(tuning(), X, Y),
        "encoder": lambda: adv.standard_accuracy(ENCODER, X, Y),
        "Images": lambda: adv.standard_accuracy(CLASSIFIER, IMAGES, Y),
        "array": lambda: adv.standard_accuracy(CLASSIFIER, ARRAY, Y),
        "mismatched lengths": lambda: adv.standard_accuracy(CLASSIFIER, X, Y[:5]),
        "grey levels": lambda: adv.standard_accuracy(CLASSIFIER, 255 * X, Y),
        "NaN": lambda: adv.standard_accuracy(CLASSIFIER, NAN, Y),
        "other channels": lambda: adv.standard_accuracy(CLASSIFIER, GREY, Y),
        "channels last": lambda: adv.standard_accuracy(CLASSIFIER, X.permute(0, 2, 3, 1), Y),
        "double precision": lambda: adv.standard_accuracy(CLASSIFIER, X.double(), Y),
        "empty": lambda: adv.standard_accuracy(CLASSIFIER, X[:0], Y[:0]),
        "labels of more classes": lambda: adv.standard_accuracy(CLASSIFIER, X, Y + 1),
    },
    "robust_accuracy": {
        "epsilon for a threat": lambda: adv.robust_accuracy(CLASSIFIER, X, Y, 8 / 255, generator=gen()),
        "no restarts": lambda: adv.robust_accuracy(CLASSIFIER, X, Y, QUICK, generator=gen(), restarts=0),
        "no generator": lambda: adv.robust_accuracy(CLASSIFIER, X, Y, QUICK, generator=None),
        "size that the model cannot take": lambda: adv.robust_accuracy(
            torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 10)), X[..., :8], Y, QUICK, generator=gen()
        ),
    },
    "autoattack_accuracy": {
        "grey levels": lambda: adv.autoattack_accuracy(CLASSIFIER, X, Y, epsilon=8, seed=0),
        "unknown norm": lambda: adv.autoattack_accuracy(CLASSIFIER, X, Y, epsilon=0.1, norm="L1", seed=0),
        "unknown attack": lambda: adv.autoattack_accuracy(CLASSIFIER, X, Y, epsilon=0.1, seed=0, attacks=("pgd",)),
        "state file in no folder": lambda: adv.autoattack_accuracy(
            CLASSIFIER, X, Y, epsilon=0.1, seed=0, state_path=NOWHERE
        ),
        "negative seed": lambda: adv.autoattack_accuracy(CLASSIFIER, X, Y, epsilon=0.1, seed=-1),
        "epsilon in words": lambda: adv.autoattack_accuracy(CLASSIFIER, X, Y, epsilon="8/255", seed=0),
    },
    "corruption_accuracy": {
        "no set": lambda: adv.corruption_accuracy(CLASSIFIER, []),
        "images": lambda: adv.corruption_accuracy(CLASSIFIER, X),
        "number": lambda: adv.corruption_accuracy(CLASSIFIER, 3),
    },
    "fourier_sensitivity": {
        "negative epsilon": lambda: adv.fourier_sensitivity(CLASSIFIER, X, Y, epsilon=-1.0, generator=gen()),
        "NaN epsilon": lambda: adv.fourier_sensitivity(CLASSIFIER, X, Y, epsilon=float("nan"), generator=gen()),
        "no generator": lambda: adv.fourier_sensitivity(CLASSIFIER, X, Y, epsilon=1.0, generator=None),
    },
    "frequency_accuracy": {
        "no radius": lambda: adv.frequency_accuracy(CLASSIFIER, X, Y, []),
        "negative radius": lambda: adv.frequency_accuracy(CLASSIFIER, X, Y, [-1.0]),
        "one number for radii": lambda: adv.frequency_accuracy(CLASSIFIER, X, Y, 4.0),
    },
    "input_gradients": {
        "encoder": lambda: adv.input_gradients(ENCODER, X, Y),
        "mismatched lengths": lambda: adv.input_gradients(CLASSIFIER, X, Y[:5]),
    },
    "loss_surface": {
        "a batch": lambda: adv.loss_surface(CLASSIFIER, X[:1], 0, X[1:2], generator=gen()),
        "no attack": lambda: adv.loss_surface(CLASSIFIER, X[0], 0, X[0], generator=gen()),
        "even points": lambda: adv.loss_surface(CLASSIFIER, X[0], 0, X[1], generator=gen(), points=10),
        "label in words": lambda: adv.loss_surface(CLASSIFIER, X[0], "disc", X[1], generator=gen()),
        "array": lambda: adv.loss_surface(CLASSIFIER, ARRAY[0], 0, X[1], generator=gen()),
        "no generator": lambda: adv.loss_surface(CLASSIFIER, X[0], 0, X[1], generator=None),
    },
    "ReportSettings": {
        "no steps": lambda: adv.ReportSettings(steps=0),
        "half a restart": lambda: adv.ReportSettings(restarts=0.5),
    },
    "robustness_report": {
        "grey levels": lambda: adv.robustness_report(CLASSIFIER, X, Y, epsilon=8, generator=gen()),
        "no generator": lambda: adv.robustness_report(CLASSIFIER, X, Y, epsilon=0.1, generator=None),
        "encoder to transfer from": lambda: adv.robustness_report(
            CLASSIFIER, X, Y, epsilon=0.1, generator=gen(), transfer_from=ENCODER
        ),
        "settings as a dict": lambda: adv.robustness_report(
            CLASSIFIER, X, Y, epsilon=0.1, generator=gen(), settings={}
        ),
    },
    # files
    "save": {
        "model": lambda: adv.save(ENCODER, "run.pt"),
        "swapped": lambda: adv.save("run.pt", tuning()),
        "under a file": lambda: adv.save(tuning(), UNDER_A_FILE),
        "a folder": lambda: adv.save(tuning(), "."),
    },
    "save_encoder": {
        "classifier": lambda: adv.save_encoder(CLASSIFIER, "encoder.pt", config=CONFIG, history=[]),
        "part of a config": lambda: adv.save_encoder(ENCODER, "encoder.pt", config=ADVCL, history=[]),
        "under a file": lambda: adv.save_encoder(ENCODER, UNDER_A_FILE, config=CONFIG, history=[]),
    },
    "load": {
        "missing": lambda: adv.load(NOWHERE),
        "a folder": lambda: adv.load("."),
        "HTML": lambda: adv.load(text_file("page.pt")),
        "state": lambda: adv.load(tuning()),
        "unknown device": lambda: adv.load(adv.save(tuning(), "device.pt"), device="gpu"),
    },
    "load_encoder": {
        "missing": lambda: adv.load_encoder(NOWHERE),
        "HTML": lambda: adv.load_encoder(text_file("page.pt")),
        "fine-tuned run": lambda: adv.load_encoder(adv.save(tuning(), "tuned.pt")),
    },
    "load_history": {
        "missing": lambda: adv.load_history(NOWHERE),
        "HTML": lambda: adv.load_history(text_file("page.pt")),
    },
    "run_name": {
        "part of a config": lambda: adv.run_name(ADVCL, IMAGES),
        "tensor": lambda: adv.run_name(CONFIG, IMAGES.x),
        "array of labels": lambda: adv.run_name(CONFIG, IMAGES, PSEUDO.numpy()),
    },
    "find_run": {"config": lambda: adv.find_run(CONFIG), "up and out": lambda: adv.find_run("../run")},
    "open_or_train": {
        "tensor": lambda: adv.open_or_train(CONFIG, IMAGES.x),
        "part of a config": lambda: adv.open_or_train(ADVCL, IMAGES),
        "unknown device": lambda: adv.open_or_train(CONFIG, IMAGES, PSEUDO, device="gpu"),
        "labels of another length": lambda: adv.open_or_train(CONFIG, IMAGES, PSEUDO[:5]),
    },
    "own_pseudo_labels": {"tensor": lambda: adv.own_pseudo_labels(CONFIG, IMAGES.x)},
    "load_release_checkpoint": {
        "missing": lambda: adv.load_release_checkpoint(NOWHERE),
        "HTML": lambda: adv.load_release_checkpoint(text_file("page.pt")),
        "preset": lambda: adv.load_release_checkpoint(text_file("page.pt"), CONFIG),
    },
    "load_release_pseudo_labels": {
        "missing": lambda: adv.load_release_pseudo_labels(NOWHERE),
        "HTML": lambda: adv.load_release_pseudo_labels(text_file("page.pkl")),
        "unknown split": lambda: adv.load_release_pseudo_labels(NOWHERE, split="validation"),
    },
    "Card": {
        "unknown method": lambda: card(method="moco"),
        "other schema": lambda: card(schema=2),
        "no scores": lambda: card(scores=[]),
        "scores as objects": lambda: card(scores=[SCORE]),
        "config as an object": lambda: card(config=CONFIG),
    },
    "make_card": {
        "unknown protocol": lambda: adv.make_card(CONFIG, "LP", [SCORE], seconds=1.0, checkpoint=None),
        "one score alone": lambda: adv.make_card(CONFIG, "SLF", SCORE, seconds=1.0, checkpoint=None),
        "missing checkpoint": lambda: adv.make_card(CONFIG, "SLF", [SCORE], seconds=1.0, checkpoint=NOWHERE),
        "part of a config": lambda: adv.make_card(ADVCL, "SLF", [SCORE], seconds=1.0, checkpoint=None),
    },
    "save_head": {
        "encoder alone": lambda: adv.save_head(ENCODER, "head.pt", encoder=HERE),
        "encoder by name": lambda: adv.save_head(CLASSIFIER, "head.pt", encoder="encoder.pt"),
        "missing encoder": lambda: adv.save_head(CLASSIFIER, "head.pt", encoder=NOWHERE),
        "under a file": lambda: adv.save_head(CLASSIFIER, UNDER_A_FILE, encoder=HERE),
    },
    "load_classifier": {
        "path": lambda: adv.load_classifier("cifar10-advcl.json"),
        "card without a head": lambda: adv.load_classifier(card()),
        "head that is nowhere": lambda: adv.load_classifier(card(head={"file": "none.pt", "sha256": "0"})),
        "head that is a path": lambda: adv.load_classifier(card(head={"file": str(HERE), "sha256": "0"})),
    },
    "write_card": {
        "dict": lambda: adv.write_card({}, "cards"),
        "under a file": lambda: adv.write_card(card(), UNDER_A_FILE),
    },
    "effect": {
        "lists": lambda: adv.effect([SCORE], [SCORE]),
        "numbers": lambda: adv.effect({0: 0.5}, {0: 0.4}),
        "no seed in common": lambda: adv.effect({0: SCORE}, {1: SCORE}),
        "empty": lambda: adv.effect({}, {}),
        "SA against RA": lambda: adv.effect({0: SCORE}, {0: adv.Score("RA", 5, 10, "PGD-20, 8/255")}),
        "six seeds": lambda: adv.effect(dict.fromkeys(range(6), SCORE), dict.fromkeys(range(6), SCORE)),
    },
    "Effect": {"margin in points": lambda: adv.Effect(0.1, 0.0, 0.2).verdict(margin=2)},
    "scores_of": {
        "unknown metric": lambda: adv.scores_of([card()], "AdvCL", "SLF", "PGD-20"),
        "nothing found": lambda: adv.scores_of([card()], "AdvCL", "SLF", "SA"),
        "paths": lambda: adv.scores_of(["card.json"], "AdvCL", "SLF", "SA"),
    },
    "time_to": {
        "card without a curve": lambda: adv.time_to(card(), "SA"),
        "unknown metric": lambda: adv.time_to(card(), "AA"),
        "share in percent": lambda: adv.time_to(card(), "SA", share=95),
        "path": lambda: adv.time_to("card.json", "SA"),
    },
    "published_table": {
        "no encoder": lambda: adv.published_table([card()], [], ["SLF"]),
        "paths": lambda: adv.published_table(["card.json"], ["AdvCL"], ["SLF"]),
    },
    "show_effects": {
        "empty": lambda: adv.show_effects({}),
        "scores": lambda: adv.show_effects({"a": SCORE}),
        "margin in points": lambda: adv.show_effects({"a": adv.Effect(0.1, 0.0, 0.2)}, margin=2),
        "list": lambda: adv.show_effects([adv.Effect(0.1, 0.0, 0.2)]),
    },
    "show_trade_off": {
        "empty": lambda: adv.show_trade_off({}),
        "one score": lambda: adv.show_trade_off({"AdvCL": {"SLF": [SCORE]}}),
        "list": lambda: adv.show_trade_off([SCORE, SCORE]),
    },
    "show_sweep": {
        "empty": lambda: adv.show_sweep({}),
        "no seeds": lambda: adv.show_sweep({"K=2": {}}),
        "no scores": lambda: adv.show_sweep({"K=2": {0: []}}),
        "lists": lambda: adv.show_sweep({"K=2": [SCORE]}),
        "another metric": lambda: adv.show_sweep({"K=2": {0: [SCORE]}, "K=10": {0: [SCORE, SCORE]}}),
        "three metrics": lambda: adv.show_sweep({"K=2": {0: [SCORE, SCORE, SCORE]}}),
    },
    "show_curves": {
        "card without a curve": lambda: adv.show_curves({"AdvCL": card()}),
        "empty": lambda: adv.show_curves({}),
        "list": lambda: adv.show_curves([card()]),
    },
    "read_cards": {
        "HTML": lambda: adv.read_cards(text_file("cards/page.json").parent),
        "number": lambda: adv.read_cards(3),
    },
    # figures
    "show_images": {
        "one image": lambda: adv.show_images(X[0]),
        "signed": lambda: adv.show_images(X - 0.5),
        "array": lambda: adv.show_images(ARRAY),
        "too few titles": lambda: adv.show_images(X, ["a"]),
        "no columns": lambda: adv.show_images(X, columns=0),
        "NaN": lambda: adv.show_images(NAN),
    },
    "show_frequency": {
        "a batch": lambda: adv.show_frequency(X, [4.0]),
        "no radius": lambda: adv.show_frequency(X[0], []),
        "one number for radii": lambda: adv.show_frequency(X[0], 4.0),
    },
    "show_spectrum": {
        "no set": lambda: adv.show_spectrum({}),
        "images without a name": lambda: adv.show_spectrum(X),
        "negative radius": lambda: adv.show_spectrum({"a": X}, -1.0),
    },
    "show_views": {
        "other number": lambda: adv.show_views(X[:5], adv.make_views(X, VIEW_DRAW)),
        "images for views": lambda: adv.show_views(X, X),
    },
    "show_augmentations": {
        "a batch": lambda: adv.show_augmentations(X, SETTINGS, generator=gen()),
        "no generator": lambda: adv.show_augmentations(X[0], SETTINGS, generator=None),
    },
    "show_attack": {
        "other number": lambda: adv.show_attack(X, X[:5]),
        "too few predictions": lambda: adv.show_attack(X, X, ([0], [1])),
    },
    "show_clusters": {
        "all columns": lambda: adv.show_clusters(X, PSEUDO),
        "cluster that is not there": lambda: adv.show_clusters(X, PSEUDO[:, 0], clusters=[7]),
        "assignments as a list": lambda: adv.show_clusters(X, PSEUDO[:, 0].tolist()),
        "none of each": lambda: adv.show_clusters(X, PSEUDO[:, 0], each=0),
    },
    "show_cluster_quality": {
        "labels": lambda: adv.show_cluster_quality([PSEUDO]),
        "one alone": lambda: adv.show_cluster_quality(adv.cluster_quality(Y, Y)),
        "nothing": lambda: adv.show_cluster_quality({}),
    },
    "show_embedding": {
        "features": lambda: adv.show_embedding(ROWS, Y, IMAGES.classes),
        "too few classes": lambda: adv.show_embedding(ROWS[:, :2], Y, IMAGES.classes[:3]),
        "moved under no name": lambda: adv.show_embedding({"a": ROWS[:, :2]}, Y, IMAGES.classes, moved=ROWS[:, :2]),
        "labels as a list": lambda: adv.show_embedding(ROWS[:, :2], Y.tolist(), IMAGES.classes),
    },
    "show_layer_similarity": {
        "over 1": lambda: adv.show_layer_similarity({"a": {"stem": 1.5}}),
        "nothing": lambda: adv.show_layer_similarity({}),
        "numbers alone": lambda: adv.show_layer_similarity([0.5]),
    },
    "show_hard_pairs": {
        "other number": lambda: adv.show_hard_pairs(X[:5], adv.mix_hard_pairs(ROWS, Y, MIXING), [0]),
        "row that is not there": lambda: adv.show_hard_pairs(X, adv.mix_hard_pairs(ROWS, Y, MIXING), [32]),
        "one row as a number": lambda: adv.show_hard_pairs(X, adv.mix_hard_pairs(ROWS, Y, MIXING), 3),
    },
    "show_loss_surface": {
        "tensor": lambda: adv.show_loss_surface(ROWS),
        "nothing": lambda: adv.show_loss_surface({}),
    },
    "show_gradients": {
        "other shape": lambda: adv.show_gradients(X, X[:5]),
        "nothing": lambda: adv.show_gradients(X, {}),
    },
    "show_inversions": {"other shape": lambda: adv.show_inversions(X, X, {"a": X[:5]})},
    "show_report": {"scores": lambda: adv.show_report([SCORE])},
    "show_scores": {
        "one score alone": lambda: adv.show_scores({"a": SCORE}),
        "a list": lambda: adv.show_scores([SCORE]),
        "chance in percent": lambda: adv.show_scores({"a": [SCORE]}, chance=10),
    },
    "show_fourier_sensitivity": {
        "images": lambda: adv.show_fourier_sensitivity(X, 1.0),
        "rates in percent": lambda: adv.show_fourier_sensitivity(100 * X[0, 0], 1.0),
    },
    "show_frequency_accuracy": {
        "score": lambda: adv.show_frequency_accuracy(SCORE),
        "chance in percent": lambda: adv.show_frequency_accuracy(
            adv.FrequencyAccuracy([1.0], [SCORE], [SCORE]), chance=10
        ),
    },
    "show_corruptions": {
        "nothing": lambda: adv.show_corruptions({}),
        "scores": lambda: adv.show_corruptions([SCORE]),
    },
    "show_corrupted": {
        "a batch": lambda: adv.show_corrupted(X, generator=gen()),
        "no generator": lambda: adv.show_corrupted(X[0], generator=None),
    },
    "show_history": {
        "no rows": lambda: adv.show_history([]),
        "unknown part": lambda: adv.show_history(HISTORY, parts=["accuracy"]),
        "state": lambda: adv.show_history(tuning()),
    },
    "show_lr": {
        "preset": lambda: adv.show_lr(CONFIG, 4),
        "no batches": lambda: adv.show_lr(ADVCL, 0),
    },
}
RESULTS = (  # plain tuples, checked by the functions that take them
    adv.ClassScatter, adv.ClusterQuality, adv.Corrupted, adv.FrequencyAccuracy, adv.LossSurface, adv.MixedBatch,
    adv.MixingDraw, adv.Published, adv.ReleaseCheckpoint, adv.ViewDraw, adv.Views,
)  # fmt: skip
MADE_BY_ONE_FUNCTION = {"Cards", "RobustnessReport", "CorruptionScores"}  # read_cards, robustness_report, ...
EXPLORERS = {name for name in adv.explore.__all__}  # they have tests of their own
EXCUSED = {kind.__name__ for kind in RESULTS} | MADE_BY_ONE_FUNCTION | EXPLORERS
TABLE = [(name, case) for name, cases in CASES.items() for case in cases]


def outcome(call) -> tuple[str, str]:
    """The error's type, its built-in base where that is an allowed one, and its message."""
    try:
        call()
    except Exception as error:
        allowed = (kind.__name__ for kind in (OSError, ValueError, TypeError) if isinstance(error, kind))
        return next(allowed, type(error).__name__), str(error)
    return "nothing raised", ""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, list[str]]:
    """What each call of the table ends with, in a process of its own, as a reader sees it."""
    paths = os.pathsep.join(filter(None, (str(HERE.parent.parent), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": paths}
    folder = tmp_path_factory.mktemp("bad")
    done = subprocess.run([sys.executable, str(HERE)], env=env, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "case"), TABLE)
def test_bad_input_is_told(outcomes, name, case):
    kind, message = outcomes[f"{name}: {case}"]
    assert kind in ("ValueError", "TypeError", "OSError"), (kind, message)
    if kind == "OSError":  # the system's own words serve too, where they end with the path
        assert re.search(r": '.+'$|expected .+ got ", message), message
    else:
        assert re.search(r"expected .+ got ", message, re.DOTALL), message
    assert len(message) < 1500 and "<lambda>" not in message, message


def test_the_table_covers_every_public_function_and_class():
    public = {name for name in dir(adv) if not name.startswith("_") and callable(getattr(adv, name))}
    public -= {name for name in public if isinstance(getattr(adv, name), types.ModuleType)}
    assert CASES.keys() | EXCUSED == public
    assert not CASES.keys() & EXCUSED
    assert len(TABLE) >= 150


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        os.chdir(scratch)
        found = {f"{name}: {case}": outcome(call) for name, cases in CASES.items() for case, call in cases.items()}
        os.chdir(HERE.parent)
    print(json.dumps(found))
