"""Numbers as Grafana writes them, for the units that our dashboards use; and round steps for an axis."""

import math

_CLOCK_STEPS = (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def written(value: float, unit: str) -> str:
    """`12.3 ms`, `1.5 GiB`, `8 req/s`. Raises `KeyError` for a unit that no panel had when this was written."""
    return _WRITERS[unit](value)


def ticks(low: float, high: float, unit: str, most: int = 4) -> list[float]:
    """Round values from `low` to at least `high`."""
    if unit == "s" and high - low > _CLOCK_STEPS[0] * most:
        step = next((step for step in _CLOCK_STEPS if step * most >= high - low), _CLOCK_STEPS[-1])
        return [low + step * number for number in range(math.ceil((high - low) / step) + 1)]
    base = 1024.0 if unit in {"bytes", "Bps"} else 10.0
    rough = (high - low or 1.0) / most
    magnitude = base ** math.floor(math.log(rough, base))
    factors = (1, 2, 5, 10) if base == 10.0 else tuple(2**power for power in range(11))
    step = next(magnitude * factor for factor in factors if magnitude * factor >= rough * 0.999)
    return [low + step * number for number in range(math.ceil((high - low) / step - 1e-9) + 1)]


def _plain(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{_short(value / (1e3 if suffix == 'k' else size))}{suffix}"
    return _short(value)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _seconds(value: float) -> str:
    for size, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if abs(value) >= size * 0.9999:
            return f"{_short(value / size)} {name}"
    return "0 s" if value == 0 else f"{_short(value * 1e6)} µs"


def _bytes(value: float) -> str:
    power = min(len(_BINARY) - 1, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
    return f"{_short(value / 1024**power)} {_BINARY[power]}"


_WRITERS = {
    "none": _plain,
    "s": _seconds,
    "bytes": _bytes,
    "Bps": lambda value: f"{_bytes(value)}/s",
    "reqps": lambda value: f"{_plain(value)} req/s",
    "cps": lambda value: f"{_plain(value)} /s",
    "percentunit": lambda value: f"{_short(value * 100)}%",
}
