"""Words as they are compared, of a resume and of what the staff look for alike."""

import re
import unicodedata
from itertools import islice

LONGEST_WORD = 40
"""In letters; of a longer one the rest is left out: no word, but Base64 or a line without blanks."""

MOST_WORDS = 5_000
"""Different words of one resume that are kept; a long one has a thousand."""

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The different words of a text in the order they come: letters and digits, without case, accents, vowel signs.

    Where a script has no blanks, a word is what stands between two signs.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    found = _WORD.finditer("".join(char for char in plain if not _is_passed_over(char)))
    return list(islice(dict.fromkeys(match[0][:LONGEST_WORD] for match in found), MOST_WORDS))


def _is_passed_over(char: str) -> bool:
    """Marks on letters, and what is not seen within a word, as a soft hyphen is not."""
    category = unicodedata.category(char)
    return category[0] == "M" or category == "Cf"
