"""The bus on one machine: one SQLite file, shared by several processes."""

from shared.bus.embedded.bus import EmbeddedBus

__all__ = ["EmbeddedBus"]
