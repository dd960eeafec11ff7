"""Deployment: a trained network as a checked file for a runtime, and the models that are timed."""
