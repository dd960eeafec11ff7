"""Several networks trained at once on Ray Tune; weak ones are stopped early, within bands of size (ASHA)."""

from hwnas.tune.config import TuneConfig
from hwnas.tune.train_many import Outcome, train_many

__all__ = ["Outcome", "TuneConfig", "train_many"]
