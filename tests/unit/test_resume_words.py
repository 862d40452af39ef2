"""Words are the same whether they stand in a resume or in a question, however they are written."""

import pytest

from services.api.resume_search.words import LONGEST_WORD, MOST_WORDS, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Python, Django & PostgreSQL 16.", ["python", "django", "postgresql", "16"]),
        ("PYTHON python Python", ["python"]),
        ("Résumé of Müller, Straße", ["resume", "of", "muller", "strasse"]),
        ("Ｆｕｌｌ　ｗｉｄｔｈ ﬁnance", ["full", "width", "finance"]),
        ("C++ and C# (node.js)", ["c", "and", "node", "js"]),
        ("snake_case e-mail", ["snake", "case", "e", "mail"]),
        ("Иван Ёлкин", ["иван", "елкин"]),
        ("履歴書、東京大学", ["履歴書", "東京大学"]),
        ("I\u0307stanbul", ["istanbul"]),
        ("Kuber\u00adnetes", ["kubernetes"]),
        ("हिन्दी ไทย", ["हनद", "ไทย"]),
        ("\x00\ud800 ... —", []),
        ("", []),
    ],
)
def test_words_are_told_without_case_and_accents_each_once(text: str, words: list[str]):
    assert words_of(text) == words
    assert words_of(" ".join(words)) == words


def test_a_text_without_blanks_is_no_word_and_a_dictionary_no_resume():
    assert words_of("a" * 10_000) == ["a" * LONGEST_WORD]
    assert len(words_of(" ".join(str(number) for number in range(20_000)))) == MOST_WORDS
