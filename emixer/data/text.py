"""Report text -> clean text -> sentences of tokens, and back. Needs no download.

The rules, which `TOKENIZER_VERSION` stands for:
1. Clean text is NFKC, typographic quotes and dashes become ASCII, white space becomes single spaces. The masks of
   de-identification (`___` in MIMIC-CXR, `XXXX` in the Indiana collection) become one `___`.
2. Tokens are lower case: masks, numbers with their decimals (2.5, 5:12) and without their unit or what else is written
   close to them (1.5cm, 1.5x2.0, 8.5F), words with inner hyphens and apostrophes
   (left-sided, patient's), abbreviations with their dots (dr., a.m.), and every other sign alone.
3. A sentence ends at . ! or ? unless the dot belongs to a number or an abbreviation. The stop itself is no token, but a
   question mark is one, since it says that something is not certain; before a word (? pneumonia) it ends nothing.
4. Numbers of a list (1. or 2)) and sentences without a letter (dates, masks, rules of dashes) are left out.

`tokenize(detokenize(sentences)) == sentences` for whatever `tokenize` returns.
"""

import re
import unicodedata

TOKENIZER_VERSION = 3
MASK = "___"

_ASCII = str.maketrans(
    dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("\u201c\u201d", '"')
    | dict.fromkeys("\u2010\u2011\u2013\u2014\u2212", "-")
)
_MASKS = re.compile(r"_{2,}|(?<![^\W_])X{3,}(?![^\W_])")
_LIST_NUMBER = re.compile(r"(?:^|(?<=[.:!?] ))\(?\d{1,2}[.)]\s+(?=[^\W\d_])")
_BEHIND_NUMBER = re.compile(r"\d(?=(?i:cm|mm|ml|kg|mg|cc)\b)|\d[.,:]\d+(?=[^\W\d_])")
_BY = re.compile(r"(?<=\d) ?[xX] ?(?=\d)")
_TITLES = ("dr", "mr", "mrs", "ms", "vs", "approx", "cf")
"""And the like: what may stand before a dot that ends no sentence."""
_TOKEN = re.compile(
    r"""_+                                                   # mask
      | (?<![^\W_])(?:[^\W\d_]\.){2,}                        # a.m., e.g.
      | (?<![^\W_])(?:TITLES)\.                               # dr., vs.
      | \d+(?:[.,:]\d+)+(?![^\W_]) | (?<![^\s(])\.\d+        # 2.5, 1,000, 5:12, .5
      | [^\W_]+(?:['-][^\W_]+)*                              # words
      | (?P<doubt>(?<![^\s([{/])\?(?=\s*[^\W\d_]))           # ? pneumonia
      | [^\s\w]                                              # any other sign""".replace("TITLES", "|".join(_TITLES)),
    re.VERBOSE,
)
_MERIDIEM = ("a.m.", "p.m.")
_STOPS = frozenset(".!?")
_QUESTION = "?"
_NO_SPACE_BEFORE = frozenset(",;:)]}%/")
_NO_SPACE_AFTER = frozenset("([{/")


def clean_text(text: str) -> str:
    """Rule 1: one line of text with the wording kept. Control characters and the byte order mark go."""
    text = unicodedata.normalize("NFKC", text).translate(_ASCII)
    text = "".join(c if not unicodedata.category(c).startswith("C") else " " if c.isspace() else "" for c in text)
    return " ".join(_MASKS.sub(MASK, text).split())


def tokenize(text: str) -> list[list[str]]:
    """Sentences of lower-case tokens of a clean text."""
    text = _BEHIND_NUMBER.sub(r"\g<0> ", _BY.sub(" x ", _LIST_NUMBER.sub("", text)))
    lower = text.lower()
    if len(lower) != len(text):  # a few foreign letters change their length
        text = lower
    sentences: list[list[str]] = [[]]
    for match in _TOKEN.finditer(lower):
        token = match.group()
        if token in _STOPS and not match["doubt"]:
            if token == _QUESTION and sentences[-1] and sentences[-1][-1] not in _NO_SPACE_AFTER:
                sentences[-1].append(token)
            sentences.append([])
            continue
        sentences[-1].append(token)
        if token in _MERIDIEM and text[match.end() : match.end() + 2].strip()[:1].isupper():
            sentences.append([])
    return [sentence for sentence in sentences if any(c.isalpha() for token in sentence for c in token)]


def detokenize(sentences: list[list[str]]) -> str:
    """Readable text: sentence case, a full stop after each sentence, punctuation without stray spaces."""
    text = " ".join(_sentence(tokens) for tokens in sentences if tokens)
    return _LIST_NUMBER.sub(lambda match: match.group().rstrip(), text)  # what only looks like a list is left out too


def _sentence(tokens: list[str]) -> str:
    text = ""
    previous = ""
    for place, token in enumerate(tokens, 1):
        is_asked = token == _QUESTION and place == len(tokens)
        glued = not text or token in _NO_SPACE_BEFORE or previous in _NO_SPACE_AFTER or is_asked
        text += token if glued else f" {token}"
        previous = token
    first = text[:1].upper()
    if first.lower() == text[:1]:  # a few letters, such as the German sharp s, do not come back
        text = first + text[1:]
    if previous == _QUESTION:
        return text
    stop = " ." if previous in _TITLES else "."  # else the stop would be the title's
    return f"{text}{stop}"
