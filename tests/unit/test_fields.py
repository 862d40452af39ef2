"""Names and e-mail addresses of the public form: what is taken, what it becomes, what is refused and how."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.fields import (
    EMAIL_MAX_BYTES,
    NAME_MAX_BYTES,
    NAME_MAX_CODE_POINTS,
    FieldInvalid,
    _domain,
    _judged,
    clean_email,
    clean_name,
    email_key,
    percent_decoded,
)
from shared.addresses import mailbox_key

KEPT_AS_TYPED = [
    *["Ann", "O'Brien-Smith", "Anne Marie", "山田太郎", "محمد", "İstanbul", "-", "100%", "50%25", "%41nn", "%", "_"],
    "👩\u200d💻",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "ന\u0d4d\u200d",
    "\U0002ebf0",  # an ideograph of Unicode 15.1
    "\U0001fae9",  # an emoji of Unicode 16
    "\ue000",
    *r"""\
<script>alert(1)</script>
"><img src=x onerror=alert(1)>
javascript:alert(1)
{{7*7}}
${7*7}
{% include "/etc/passwd" %}
<%= 7 %>
-first_name-
=HYPERLINK("http://x")
+1
-1+1
@SUM
\0=
'; DROP TABLE leads;--""".splitlines(),
]

TIDIED = [
    ("  Ann ", "Ann"),
    ("\tAnn\r\n", "Ann"),
    ("\u3000山田\u00a0", "山田"),
    ("\u200b\ufeffAnn\u00ad\u2060", "Ann"),
    ("N\u0303ando", "Ñando"),
    ("\u2126", "Ω"),
]

NOTHING_TO_SEE = [
    "",
    " ",
    "\t\r\n",
    "\u200b",
    "\u00ad",
    "\u2060",
    "\u200d",
    "\ufeff \u180e",
    "\u3164",
    "\u2800",
    "\u0301",
    "\0",
]

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
BIDI_CONTROLS = [chr(code) for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
NOT_CHARACTERS = ["\ufdd0", "\ufffe", "\U0001ffff", "\U0010ffff", "\u0378", "\U000e0fff"]

ENCODED = [
    "%0d%0aBcc: x@evil.test",
    "%0D",
    "%0A",
    "%250a",
    "%25250a",
    "%2%35%30a",
    "%00",
    "%7f",
    "%E2%80%A8",
    "%c2%85",
    "%E2%80%AE",
]


@pytest.mark.parametrize("name", KEPT_AS_TYPED)
def test_a_name_is_kept_as_typed(name):
    assert clean_name("first_name", name.encode()) == name


@pytest.mark.parametrize(("typed", "kept"), TIDIED)
def test_a_name_is_trimmed_and_composed(typed, kept):
    assert clean_name("first_name", typed.encode()) == kept


@pytest.mark.parametrize("typed", NOTHING_TO_SEE)
def test_a_name_with_nothing_to_see_is_asked_for(typed):
    assert _refusal(clean_name, "first_name", typed.encode()) == "Write your first name."


@pytest.mark.parametrize("char", CONTROLS + BIDI_CONTROLS + NOT_CHARACTERS)
def test_a_character_that_no_name_needs_is_refused_inside_a_name(char):
    assert "hidden characters" in _refusal(clean_name, "last_name", f"An{char}n".encode())


@pytest.mark.parametrize("char", [*BIDI_CONTROLS, "\0", "\x7f", "\u0085", "\u2028"])
@pytest.mark.parametrize("form", ["{}Ann", "Ann{}"])
def test_a_hidden_character_is_not_just_trimmed_away(char, form):
    assert "hidden characters" in _refusal(clean_name, "last_name", form.format(char).encode())


@pytest.mark.parametrize("sequence", ENCODED)
def test_percent_encoding_cannot_hide_a_control_however_deep(sequence):
    assert "hidden characters" in _refusal(clean_name, "first_name", f"Ann{sequence}".encode())


def test_percent_encoding_too_deep_to_undo_is_refused():
    deep = "A"
    while len(deep) < NAME_MAX_CODE_POINTS - 2:
        deep = f"{deep[:-1]}%{ord(deep[-1]):x}"
    assert percent_decoded(deep) is None
    assert "hidden characters" in _refusal(clean_name, "first_name", deep.encode())


@pytest.mark.parametrize("raw", [b"\xff", b"A\xe9", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80"])
def test_bytes_that_are_not_utf8_are_refused(raw):
    assert _refusal(clean_name, "first_name", raw) == "This is not UTF-8 text."
    assert _refusal(clean_email, "email", raw + b"@b.test") == "This is not UTF-8 text."


@pytest.mark.parametrize("char", ["x", "é", "e\u0301", "山", "👩", "각"])
def test_a_name_may_have_100_code_points_and_not_one_more(char):
    assert len(clean_name("first_name", b" " + (char * NAME_MAX_CODE_POINTS).encode() + b" ")) == NAME_MAX_CODE_POINTS
    decomposed = unicodedata.normalize("NFD", char * NAME_MAX_CODE_POINTS)
    assert len(clean_name("first_name", decomposed.encode())) == NAME_MAX_CODE_POINTS
    too_long = (char * (NAME_MAX_CODE_POINTS + 1)).encode()
    assert _refusal(clean_name, "first_name", too_long) == "This is too long: at most 100 characters."


def test_an_endless_name_is_refused_before_it_costs_anything():
    assert "too long" in _refusal(clean_name, "first_name", b"\xcc\x81\xcc\xa3" * NAME_MAX_BYTES)


def test_a_refusal_names_its_field():
    with pytest.raises(FieldInvalid) as refused:
        clean_name("last_name", b"")
    assert (refused.value.error.field, refused.value.error.detail) == ("last_name", "Write your last name.")


@given(st.binary(max_size=300) | st.text(max_size=120).map(lambda text: text.encode(errors="surrogatepass")))
@settings(deadline=None, max_examples=300)
def test_whatever_is_sent_a_name_is_either_refused_or_clean_for_good(raw):
    try:
        name = clean_name("first_name", raw)
    except FieldInvalid:
        return
    assert clean_name("first_name", name.encode()) == name
    assert 1 <= len(name) <= NAME_MAX_CODE_POINTS
    assert not {unicodedata.category(char) for char in name} & {"Cc", "Cs", "Zl", "Zp"}


GOOD_EMAILS = [
    ("ann@example.com", "ann@example.com"),
    ("  ann@b.test ", "ann@b.test"),
    ("Ann.Lee+cv@Example.COM", "Ann.Lee+cv@example.com"),
    ("Info@B.test", "Info@b.test"),
    ("o'brien_%x@b.test", "o'brien_%x@b.test"),
    ("ann@mail.example", "ann@mail.example"),
    ("ann@例子.公司", "ann@xn--fsqu00a.xn--55qx5d"),
    ("ann@xn--fsqu00a.xn--55qx5d", "ann@xn--fsqu00a.xn--55qx5d"),
    ("ann@BÜCHER.test", "ann@xn--bcher-kva.test"),
    ("ann@bu\u0308cher.test", "ann@xn--bcher-kva.test"),
    ("admin@p\u0430ypal.test", "admin@xn--pypal-4ve.test"),
    ("ann@ＢＣ。test", "ann@bc.test"),
    ("x" * 64 + "@b.test", "x" * 64 + "@b.test"),
]

NOT_ONE_EMAIL = [
    *["ann", "@b.test", "ann@", "a@@b.test", "a@b@c.test", ".a@b.test", "a.@b.test", "a..b@c.test"],
    *["a@b", "a@test", "a@localhost", "a@x.localhost", "a@mail.internal", "a@host.localdomain", "a@printer.local"],
    *["a@b.invalid", "a@10.in-addr.arpa", "a@[127.0.0.1]", "a@[IPv6:::1]", "a@127.0.0.1"],
    *['"ab"@c.test', "a(x)@c.test", "a@c.test(x)", "a@b.test;c@d.test", "<a@b.test>", "mailto:a@b@c.test"],
    *["a%0d%0ab@c.test", "a%250ab@c.test", "a@b.test.", "a@-b.test", "a@b_c.test", "a@xn--a.test", "a＠b.test"],
    "x" * 65 + "@b.test",
    '"a b"@c.test',
    "a@b.test, c@d.test",
    "a@b.test c@d.test",
    "Name <a@b.test>",
    "a@b.test\n",
    "a@b.test\r\nBcc: x@evil.test",
    "\ta@b.test",
    "a\0@b.test",
    "a@b.test\0",
    "a@b.te\u00adst\u2028",
    "a@\u202eb.test",
]


@pytest.mark.parametrize(("typed", "kept"), GOOD_EMAILS)
def test_an_address_keeps_its_local_part_and_gets_an_ascii_domain(typed, kept):
    email = clean_email("email", typed.encode())
    assert (email.address, email.key) == (kept, kept.casefold())


@pytest.mark.parametrize("typed", NOT_ONE_EMAIL)
def test_what_is_not_one_address_is_refused_with_an_example(typed):
    assert _refusal(clean_email, "email", typed.encode()) == "This must be one e-mail address such as ann@example.com."


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("用户@例子.公司", "用户@xn--fsqu00a.xn--55qx5d"),
        ("\u0430dmin@b.test", "\u0430dmin@b.test"),
        ("jose\u0301@b.test", "jos\u00e9@b.test"),
    ],
)
def test_a_local_part_outside_ascii_is_kept_as_typed_and_composed(typed, kept):
    assert clean_email("email", typed.encode()).address == kept


def test_a_local_part_with_invisible_characters_is_refused():
    _refusal(clean_email, "email", "a\u200b@b.test".encode())


@pytest.mark.parametrize("typed", ["", "   "])
def test_an_empty_address_is_asked_for(typed):
    assert _refusal(clean_email, "email", typed.encode()) == "Write your e-mail address."


def test_an_address_may_have_254_bytes_and_not_one_more():
    longest = f"{'x' * 64}@{'y' * 61}.{'y' * 61}.{'y' * 62}.te"
    assert len(longest) == EMAIL_MAX_BYTES
    assert clean_email("email", longest.encode()).address == longest
    assert "254" in _refusal(clean_email, "email", longest.encode() + b"x")


def test_two_spellings_of_one_mailbox_share_a_key():
    one, other = clean_email("email", b"ANN@Example.com"), clean_email("email", b"ann@EXAMPLE.COM")
    assert one.key == other.key
    assert one.address != other.address


@given(
    st.binary(max_size=80)
    | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass"))
    | st.builds("{}@{}".format, st.text(min_size=1, max_size=9), st.text(max_size=20)).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    | st.emails().map(str.encode)
)
@settings(deadline=None, max_examples=400)
def test_whatever_is_sent_an_address_is_either_refused_or_plain_ascii_for_good(raw):
    try:
        email = clean_email("email", raw)
    except FieldInvalid:
        return
    assert clean_email("email", email.address.encode()) == email
    assert email.address.isascii()
    assert email.address.isprintable()
    assert email.address.count("@") == 1
    assert not set(email.address) & set(' ,;<>()[]":\\')
    assert len(email.address) <= EMAIL_MAX_BYTES


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("Ann@Example.com", "ann@example.com"),
        ("ann+jobs@example.com", "ann@example.com"),
        ("ann+a+b@example.com", "ann@example.com"),
        ("+ann@example.com", "+ann@example.com"),
        ("a.n.n@example.com", "a.n.n@example.com"),
        ("A.n.n+x@GoogleMail.com", "ann@gmail.com"),
        ("ann@gmail.com", "ann@gmail.com"),
        ("nobody", "nobody"),
        ("jos\u0065\u0301@b.test", "jos\u00e9@b.test"),
    ],
)
def test_all_spellings_of_a_mailbox_count_as_one_recipient(address, key):
    assert mailbox_key(address) == key
    assert mailbox_key(key) == key


def _refusal(clean, field, raw):
    with pytest.raises(FieldInvalid) as refused:
        clean(field, raw)
    assert refused.value.error.field == field
    return refused.value.error.detail


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("J\u00f6rg@Ex\u00e4mple.test", "j\u00f6rg@ex\u00e4mple.test"), (" ANN@example.com ", "ann@example.com")],
)
def test_an_address_is_looked_for_as_it_is_kept(typed, stored):
    assert email_key(typed) == clean_email("email", stored.encode()).key


def test_what_is_no_address_can_be_looked_for_too():
    assert email_key(" No address\ud800 ") == "no address\ud800"


LOCAL_PARTS = st.text(st.sampled_from("aZ9_+-."), min_size=1, max_size=70)
DOMAINS = st.text(st.sampled_from("aZ9-.é"), min_size=1, max_size=30) | st.sampled_from(
    [
        "example.com",
        "EXAMPLE.com",
        "xn--bcher-kva.example",
        "a.test",
        "test",
        "b.internal",
        "localhost",
        "a..b",
        "1.2.3.4",
    ]
)


@given(LOCAL_PARTS, DOMAINS)
def test_a_domain_that_is_known_already_is_judged_as_one_that_is_not(local: str, domain: str):
    text = f"{local}@{domain}"
    assert _domain(text) == _judged(text)
