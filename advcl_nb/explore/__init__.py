"""Explorers for notebooks: move a control and see what happens. Each is a widget, and a picture where none can live."""

from advcl_nb.explore.attack import explore_attack
from advcl_nb.explore.clusters import explore_clusters
from advcl_nb.explore.frequency import explore_frequency
from advcl_nb.explore.views import explore_views

__all__ = ["explore_attack", "explore_clusters", "explore_frequency", "explore_views"]
