"""Contests: networks trained at once, those that fall behind others of their size ended early."""

from hwnas.contest.contest import Contest, Outcome, hold

__all__ = ["Contest", "Outcome", "hold"]
