"""Text as numbers: ids that stay the same, within their vocabulary, padded and cut to one length."""

from hypothesis import given, settings
from hypothesis import strategies as st

from commentary_hub.data import CHARACTERS, characters, tokenise
from commentary_hub.networks import CharLM

TEXTS = st.lists(st.text(max_size=20), min_size=1, max_size=5)


@given(TEXTS, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_character_ids_fill_a_row_up_to_the_texts_length_and_stay_in_the_vocabulary(texts, length):
    ids = characters(texts, length=length)
    assert ids.shape == (len(texts), length)
    assert int(ids.max()) < CHARACTERS
    for row, text in zip(ids, texts, strict=True):
        assert int((row > 0).sum()) == min(len(text), length)  # no character is taken for padding
        assert not row[min(len(text), length) :].any()


def test_printable_characters_have_ids_of_their_own_and_all_others_one():
    printable = "".join(map(chr, range(32, 127)))
    assert characters([printable], length=95).tolist() == [list(range(2, 97))]
    assert characters(["\n\té猫"], length=4).tolist() == [[1, 1, 1, 1]]


def test_a_language_model_takes_them_as_they_are():
    ids = characters(["To be, or not to be", ""], length=24)
    assert CharLM(CHARACTERS, width=8)(ids).shape == (2, 24, CHARACTERS)


@given(TEXTS, st.integers(1, 12), st.integers(2, 50))
@settings(max_examples=40, deadline=None)
def test_words_stay_in_the_vocabulary_and_never_become_padding(texts, length, vocabulary):
    ids = tokenise(texts, length=length, vocabulary=vocabulary)
    assert ids.shape == (len(texts), length)
    assert int(ids.max()) < vocabulary
    for row in ids.tolist():
        words = sum(one > 0 for one in row)
        assert row[words:] == [0] * (length - words)
