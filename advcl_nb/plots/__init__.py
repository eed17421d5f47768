"""Static figures. Every function returns a matplotlib Figure that shows itself once as the value of a cell."""

from advcl_nb.plots.attacks import show_attack
from advcl_nb.plots.clusters import show_cluster_quality, show_clusters
from advcl_nb.plots.features import show_embedding, show_hard_pairs
from advcl_nb.plots.frequency import show_frequency, show_spectrum
from advcl_nb.plots.images import show_images
from advcl_nb.plots.scores import show_scores
from advcl_nb.plots.training import show_history, show_lr
from advcl_nb.plots.views import show_augmentations, show_views

__all__ = [
    "show_attack",
    "show_augmentations",
    "show_cluster_quality",
    "show_clusters",
    "show_embedding",
    "show_frequency",
    "show_hard_pairs",
    "show_history",
    "show_images",
    "show_lr",
    "show_scores",
    "show_spectrum",
    "show_views",
]
