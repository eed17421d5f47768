"""Static figures. Every function returns a matplotlib Figure that shows itself once as the value of a cell."""

from advcl_nb.plots.attacks import show_attack
from advcl_nb.plots.claims import show_curves, show_effects, show_sweep, show_trade_off
from advcl_nb.plots.clusters import show_cluster_quality, show_clusters
from advcl_nb.plots.features import show_embedding, show_hard_pairs, show_layer_similarity
from advcl_nb.plots.frequency import show_frequency, show_spectrum
from advcl_nb.plots.images import show_images
from advcl_nb.plots.landscape import show_gradients, show_inversions, show_loss_surface
from advcl_nb.plots.report import show_report
from advcl_nb.plots.scores import show_scores
from advcl_nb.plots.sensitivity import (
    show_corrupted,
    show_corruptions,
    show_fourier_sensitivity,
    show_frequency_accuracy,
)
from advcl_nb.plots.training import show_history, show_lr
from advcl_nb.plots.views import show_augmentations, show_views

__all__ = [
    "show_attack",
    "show_augmentations",
    "show_cluster_quality",
    "show_clusters",
    "show_corrupted",
    "show_corruptions",
    "show_curves",
    "show_effects",
    "show_embedding",
    "show_fourier_sensitivity",
    "show_frequency",
    "show_frequency_accuracy",
    "show_gradients",
    "show_hard_pairs",
    "show_history",
    "show_images",
    "show_inversions",
    "show_layer_similarity",
    "show_loss_surface",
    "show_lr",
    "show_report",
    "show_scores",
    "show_spectrum",
    "show_sweep",
    "show_trade_off",
    "show_views",
]
