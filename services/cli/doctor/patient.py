"""What is looked at: the rooms that were asked for, with the settings that each would start with."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import ValidationError

from services.api.settings import ApiSettings
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.settings import Settings, SettingsError, complaints

AnySettings = TypeVar("AnySettings", bound=Settings)


class RoomName(StrEnum):
    """A room, as it is named on the command line."""

    API = "api"
    STORAGE = "storage"
    NOTIFIER = "notifier"


@dataclass(frozen=True)
class Patient:
    """The settings of each room that is looked at: None where they do not load, or the room was not asked for."""

    rooms: tuple[RoomName, ...]
    api: ApiSettings | None
    storage: StorageSettings | None
    notifier: NotifierSettings | None
    complaints: tuple[str, ...]

    @property
    def loaded(self) -> tuple[Settings, ...]:
        """The settings that load, of whichever rooms."""
        return tuple(one for one in (self.api, self.storage, self.notifier) if one is not None)

    @property
    def any_settings(self) -> Settings | None:
        """Those which all rooms share."""
        return next(iter(self.loaded), None)


def meet(rooms: Collection[RoomName]) -> Patient:
    """Reads the settings of each room. What is wrong with them is kept, not raised."""
    said: dict[str, None] = {}  # a setting that all share is complained of by all: it is said once
    return Patient(
        tuple(rooms),
        api=_read(ApiSettings, said) if RoomName.API in rooms else None,
        storage=_read(StorageSettings, said) if RoomName.STORAGE in rooms else None,
        notifier=_read(NotifierSettings, said) if RoomName.NOTIFIER in rooms else None,
        complaints=tuple(said),
    )


def _read(cls: type[AnySettings], said: dict[str, None]) -> AnySettings | None:
    """What is wrong is put into `said`. Those settings get their defaults, so that the others can be looked at."""
    given: dict[str, Any] = {}
    try:
        while True:
            try:
                return cls(**given)
            except ValidationError as error:
                said.update(dict.fromkeys(complaints(error)))
                wrong = _defaults(cls, error)
                if wrong.keys() <= given.keys():
                    return None
                given |= wrong
    except SettingsError as error:
        said[str(error)] = None
        return None


def _defaults(cls: type[Settings], error: ValidationError) -> dict[str, Any]:
    """Of the settings that are wrong. One of its own says nothing of two that do not fit together."""
    wrong = {str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]}
    return {
        field: about.get_default(call_default_factory=True)
        for field, about in cls.model_fields.items()
        if wrong & {field, str(about.validation_alias)}
    }
