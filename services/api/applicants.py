"""Who applies: the text fields of a lead, whether a form or JSON brought them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from services.api.fields import EmailAddress, FieldInvalid, clean_email, clean_name
from shared.problems import FieldError

TEXT_FIELDS: Final = ("first_name", "last_name", "email")

Cleaned = TypeVar("Cleaned", str, EmailAddress)


@dataclass(frozen=True)
class Applicant:
    """The text fields, cleaned."""

    first_name: str
    last_name: str
    email: EmailAddress


def clean_applicant(texts: Mapping[str, bytes | bytearray], errors: list[FieldError]) -> Applicant | None:
    """The applicant; None when a field is at fault, which `errors` then names.

    A field that `errors` names already is not looked at.
    """
    at_fault = {error.field for error in errors}

    def cleaned(name: str, clean: Callable[[str, bytes], Cleaned]) -> Cleaned | None:
        if name in at_fault:
            return None
        try:
            return clean(name, bytes(texts.get(name, b"")))
        except FieldInvalid as invalid:
            errors.append(invalid.error)
            return None

    first_name = cleaned("first_name", clean_name)
    last_name = cleaned("last_name", clean_name)
    email = cleaned("email", clean_email)
    if first_name is None or last_name is None or email is None:
        return None
    return Applicant(first_name, last_name, email)
