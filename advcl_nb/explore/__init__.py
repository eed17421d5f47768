"""Explorers for notebooks: move a control and see what happens. Each is a widget, and a picture where none can live."""

from advcl_nb.explore.attack import explore_attack
from advcl_nb.explore.clusters import explore_clusters
from advcl_nb.explore.embedding import explore_embedding
from advcl_nb.explore.frequency import explore_frequency
from advcl_nb.explore.views import explore_views
from advcl_nb.explore.watching import watch

__all__ = ["explore_attack", "explore_clusters", "explore_embedding", "explore_frequency", "explore_views", "watch"]
