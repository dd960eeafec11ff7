"""What a network will do before it runs: latency and accuracy, each an Estimate."""

from hwnas.estimate import Estimate, Predictor

__all__ = ["Estimate", "Predictor"]
