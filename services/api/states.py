"""The states of a lead and the moves between them: the one place that says what is legal."""

from collections.abc import Mapping
from enum import StrEnum


class LeadState(StrEnum):
    """Where a lead stands with the staff."""

    PENDING = "PENDING"
    REACHED_OUT = "REACHED_OUT"


TRANSITIONS: Mapping[LeadState, frozenset[LeadState]] = {
    LeadState.PENDING: frozenset({LeadState.REACHED_OUT}),
    LeadState.REACHED_OUT: frozenset(),
}
"""From each state, where a lead may go. Staying where it is is always allowed, and changes nothing."""


def may_move(current: LeadState, wanted: LeadState) -> bool:
    """Whether a lead may go from `current` to `wanted`."""
    return wanted == current or wanted in TRANSITIONS[current]


def origins(wanted: LeadState) -> list[LeadState]:
    """The states from which a lead may go to `wanted`."""
    return [state for state, targets in TRANSITIONS.items() if wanted in targets]
