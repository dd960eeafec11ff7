"""Transfer: the latency of a new device from a few measurements on it and the tables of known devices.

rows = choose_samples(features, sources, 20, seed=0)
model = fit_transfer(features, sources, measured)     # measured: row -> ms on the new device
model.predict(features.index)                         # value, low, high in ms
"""

from hwnas.predictors.latency.transfer.model import TransferModel, fit_transfer
from hwnas.predictors.latency.transfer.samples import choose_samples

__all__ = ["TransferModel", "choose_samples", "fit_transfer"]
