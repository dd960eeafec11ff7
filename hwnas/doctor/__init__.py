"""What is missing or odd on this machine or on a board (hwnas.doctor.board), and what fixes it."""

from hwnas.doctor.finding import LEVELS, Finding
from hwnas.doctor.here import CHECKS, examine
from hwnas.doctor.machine import Imported, Machine

__all__ = ["CHECKS", "LEVELS", "Finding", "Imported", "Machine", "examine"]
