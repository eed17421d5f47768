"""advcl_nb: adversarial contrastive learning to learn, reproduce and explore. ``import advcl_nb as adv``."""

import importlib

from advcl_nb._plain import diff
from advcl_nb.attacks import L2, Linf, pgd, pgd_path
from advcl_nb.autoattack import AutoAttackScore, autoattack_accuracy
from advcl_nb.cards import Card, Cards, make_card, read_cards, write_card
from advcl_nb.checkpoint import (
    find_run,
    load,
    load_encoder,
    load_history,
    open_or_train,
    own_pseudo_labels,
    run_name,
    save,
    save_encoder,
)
from advcl_nb.claims import Effect, effect, scores_of, time_to
from advcl_nb.clustering import ClusterQuality, cluster_quality, pseudo_labels
from advcl_nb.config import Config, DataConfig, FinetuneConfig, PretrainConfig, learning_rate
from advcl_nb.corrupted import Corrupted, load_corruptions, own_corruptions
from advcl_nb.corruptions import CORRUPTIONS, corrupt
from advcl_nb.data import Images, ShapeSettings, batches, load_data, load_images, shapes, to_float
from advcl_nb.evaluate import CorruptionScores, corruption_accuracy, robust_accuracy, standard_accuracy
from advcl_nb.features import (
    ClassScatter,
    alignment,
    class_scatter,
    embed_2d,
    extract_features,
    knn_accuracy,
    layer_features,
    linear_cka,
    uniformity,
)
from advcl_nb.finetune import FinetuneState, finetune_epochs, finetune_step
from advcl_nb.frequency import fourier_basis, high_pass, low_pass, radial_mask, radial_spectrum
from advcl_nb.heads import load_classifier, save_head
from advcl_nb.landscape import LossSurface, input_gradients, invert_features, loss_surface
from advcl_nb.losses import (
    focal_contrastive,
    kl_divergence,
    multi_view_nt_xent,
    pseudo_label_loss,
    supervised_contrastive,
    trades_loss,
)
from advcl_nb.mixing import MixedBatch, MixingDraw, draw_mixing, mix_hard_pairs
from advcl_nb.models import BRANCHES, AdvCLModel, Classifier, Encoder, ModelConfig, build_model
from advcl_nb.presets import PRESETS, preset
from advcl_nb.pretrain import PretrainState, pretrain_epochs, pretrain_step
from advcl_nb.published import PUBLISHED, Published, published_table
from advcl_nb.release import ReleaseCheckpoint, load_release_checkpoint, load_release_pseudo_labels
from advcl_nb.report import ReportSettings, RobustnessReport, robustness_report
from advcl_nb.rng import Streams
from advcl_nb.score import Score
from advcl_nb.sensitivity import FrequencyAccuracy, fourier_sensitivity, frequency_accuracy
from advcl_nb.views import (
    ViewDraw,
    Views,
    ViewSettings,
    color_jitter,
    draw_views,
    flip,
    make_views,
    padded_crop,
    resized_crop,
    to_grey,
)


def __getattr__(name: str) -> object:
    """Load matplotlib with the first figure and ipywidgets with the first explorer, not with the package."""
    for module, start in (("plots", "show_"), ("explore", ("explore_", "watch"))):
        if name == module or name.startswith(start):
            loaded = importlib.import_module(f"advcl_nb.{module}")
            return loaded if name == module else getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the figures and explorers too, for completion in an editor or a notebook; asking loads them."""
    lazy = (importlib.import_module(f"advcl_nb.{module}").__all__ for module in ("plots", "explore"))
    return [*globals(), *(name for names in lazy for name in names)]
