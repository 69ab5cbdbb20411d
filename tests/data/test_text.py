"""The tokenizer: abbreviations, decimals, lists, masks, and that it undoes itself."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emixer.data.text import clean_text, detokenize, tokenize


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("The lungs are clear. No effusion.", ["the lungs are clear", "no effusion"]),
        ("A 2.5 cm nodule. Heart normal", ["a 2.5 cm nodule", "heart normal"]),
        ("A 2.5cm nodule", ["a 2.5 cm nodule"]),
        ("Measuring 1.5x2.0 cm, was 1.5 X 12CM.", ["measuring 1.5 x 2.0 cm , was 1.5 x 12 cm"]),
        ("8.5F pigtail catheter. 1.2cc at 5.30pm.", ["8.5 f pigtail catheter", "1.2 cc at 5.30 pm"]),
        ("Wedging of T7. No fracture.", ["wedging of t7", "no fracture"]),
        ("Discussed with Dr. Who by phone.", ["discussed with dr. who by phone"]),
        ("Seen at 5:12 a.m. on the film.", ["seen at 5:12 a.m. on the film"]),
        ("Film of 5:12 A.M. Heart is large.", ["film of 5:12 a.m.", "heart is large"]),
        ("1. No effusion. 2. Clear lungs.", ["no effusion", "clear lungs"]),
        ("1) No effusion. 2) Clear lungs.", ["no effusion", "clear lungs"]),
        ("Left-sided tube, patient's right.", ["left-sided tube , patient's right"]),
        ("Small and/or moderate (50%) loss", ["small and / or moderate ( 50 % ) loss"]),
        ("Compared to ___. ___.", ["compared to ___"]),
        ("Lines in place? Yes! Good.", ["lines in place ?", "yes", "good"]),
        ("Size .5 mm.", ["size .5 mm"]),
        ("Clear.No effusion.", ["clear", "no effusion"]),
        ("", []),
        ("12/3/2010. ---.", []),
    ],
)
def test_sentences_and_tokens_follow_the_rules(text: str, sentences: list[str]) -> None:
    assert [" ".join(tokens) for tokens in tokenize(text)] == sentences


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  two\n\n lines\t here ", "two lines here"),
        ("seen ____ and XXXX", "seen ___ and ___"),
        ("chest x-XXXX", "chest x-___"),
        ("XXL catheter, XX", "XXL catheter, XX"),
        ("patient\u2019s \u201cheart\u201d \u2013 large", 'patient\'s "heart" - large'),
        ("\ufefffi\u00adne", "fine"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_clean_text_normalises_white_space_masks_and_signs(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


def test_detokenized_text_reads_like_a_report() -> None:
    text = "The heart is large (ratio 0.6), with 50% more. No effusion and/or pneumothorax."
    assert detokenize(tokenize(text)) == text


@example("5)a")
@example("(5)a b")
@example("a:5!a")
@example("DR")
@example("Seen by Dr! Again")
@example("seen: 12)right base")
@given(
    st.text(alphabet=st.sampled_from("abT x7.5,:;()/-'%_!?\n\u00e9\u0130drDR. "), max_size=60) | st.text(max_size=40)
)
def test_tokenize_undoes_detokenize_for_any_text(text: str) -> None:
    sentences = tokenize(clean_text(text))
    assert tokenize(detokenize(sentences)) == sentences


@given(st.text(max_size=60))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.text(max_size=60))
def test_no_text_can_forge_a_special_token(text: str) -> None:
    tokens = {token for sentence in tokenize(f"{text} <END> <pad>") for token in sentence}
    assert not tokens & {"<PAD>", "<START>", "<END>", "<UNK>"}
