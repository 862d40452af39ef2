"""E-mail addresses as every room compares them. Whether a text is one is decided where it comes in, not here."""

import unicodedata

_GMAIL = frozenset({"gmail.com", "googlemail.com"})


def mailbox_key(address: str) -> str:
    """The mailbox behind `address`, for counting what one person is sent.

    Case-folded, without the `+tag` (subaddressing, RFC 5233). Gmail delivers all dotted spellings of a name, under
    both of its domains, to one person (Google's help page "Dots don't matter in Gmail addresses"), so there the
    dots go too. Only for counting: never write to the key. Never raises; a text without `@` is only case-folded.
    """
    folded = unicodedata.normalize("NFC", address.casefold())
    local, at, domain = folded.rpartition("@")
    if not at:
        return folded
    name = local.partition("+")[0] or local
    if domain in _GMAIL:
        name, domain = name.replace(".", "") or name, "gmail.com"
    return f"{name}@{domain}"
