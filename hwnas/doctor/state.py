"""Clock and heat of a machine, this one or a board: what spoils timings."""

from __future__ import annotations

from collections.abc import Iterable

from hwnas.board import guards
from hwnas.doctor.finding import Finding

__all__ = ["governor", "heat"]

HOT_CELSIUS = 75.0
STEADY_GOVERNORS = ("performance", "userspace")


def governor(name: str | None) -> Finding:
    """Whether the CPU's governor leaves the clock alone."""
    if name is None:
        return Finding(
            "note", "the kernel shows no CPU governor: the clock may change while something is timed"
        )
    if name in STEADY_GOVERNORS:
        return Finding("ok", f"the CPU governor is '{name}'")
    return Finding(
        "warning",
        f"the CPU governor is '{name}', which changes the clock and spoils timings",
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )


def heat(celsius: float | None, bits: float | None) -> Iterable[Finding]:
    """Whether it is hot, or held back by heat or too little power; `bits` are a Raspberry Pi's."""
    if celsius is not None and celsius >= HOT_CELSIUS:
        yield Finding(
            "warning", f"the machine is at {celsius:.0f} °C: it may throttle", "let it cool, or fit a fan"
        )
    known = 0 if bits is None else int(bits)
    if words := guards.throttled_words(known):
        yield Finding(
            "warning",
            f"the board holds itself back: {', '.join(words)}",
            "use the board's own power supply and a heat sink; 'vcgencmd get_throttled' says when it is over",
        )
    elif words := guards.throttled_words(known >> 16):
        yield Finding(
            "note",
            f"since its last start the board has held itself back: {', '.join(words)}",
            "use the board's own power supply and a heat sink, or cells will be measured again and again",
        )
