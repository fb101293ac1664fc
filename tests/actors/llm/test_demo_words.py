"""The demo's rules for sentences and for matching."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm.demo_words import best_matches, is_question, split_sentences, stated_fact

STATED = [
    ("My name is Thandeka.", "My name is Thandeka."),
    ("Hello there, I'm Bartholomew!", "I'm Bartholomew!"),
    ("i live in Ouagadougou", "I live in Ouagadougou"),
    ("I\u2019m allergic to hazelnuts", "I'm allergic to hazelnuts"),
    ("By the way, my sister plays the oboe.", "My sister plays the oboe."),
    ("Remember that the wifi password is tulip-42", "The wifi password is tulip-42"),
    ("Please remember: Zorblax prefers his tea cold.", "Zorblax prefers his tea cold."),
    ("Can you remember that my dog is Rex?", "My dog is Rex"),
    ("Don't forget that I hate coriander", "I hate coriander"),
    ("Call me Tee.", "Call me Tee."),
    ("Our anniversary is 14 June", "Our anniversary is 14 June"),
    ("Quorra keeps bees", "Quorra keeps bees"),
]


@pytest.mark.parametrize(("sentence", "fact"), STATED)
def test_a_statement_is_kept_in_its_own_words(sentence: str, fact: str) -> None:
    assert stated_fact(sentence) == fact
    assert not is_question(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "What is my name?",
        "where do I live",
        "Tell me what you know about my brother.",
        "Do you remember my name?",
        "Can you remember my name?",
        "I want to know where I live.",
        "I'd like to know my name",
        "and what about my sister?",
        "How are you?",
    ],
)
def test_a_question_states_nothing(sentence: str) -> None:
    assert stated_fact(sentence) is None
    assert is_question(sentence)


@pytest.mark.parametrize(
    "sentence", ["Hello!", "Thanks a lot.", "This is great.", "You are wrong.", "ok", "I don't know."]
)
def test_small_talk_is_neither(sentence: str) -> None:
    assert stated_fact(sentence) is None
    assert not is_question(sentence)


def test_initials_and_titles_end_no_sentence() -> None:
    assert split_sentences("I moved to St. Ives. My dentist is Dr. Quill! Who is J. Doe?\nHi") == [
        "I moved to St. Ives.",
        "My dentist is Dr. Quill!",
        "Who is J. Doe?",
        "Hi",
    ]
    assert split_sentences("My name is X. What is yours?") == ["My name is X.", "What is yours?"]


LINES = [
    "My name is Thandeka Okonjo.",
    "I live in Ouagadougou",
    "I'm allergic to hazelnuts.",
    "My favourite colour is vermilion.",
    "I work as a cartographer",
    "I have two ferrets called Biscuit and Gravy.",
    "I was born in 1987.",
    "My sister's name is Xiomara.",
    "My brother lives in Tallinn.",
    "I play the hurdy-gurdy.",
    "I drive a yellow Trabant.",
    "My birthday is on the 3rd of March",
    "I studied marine biology in Bergen.",
    "I hate coriander",
    "I love Ethiopian food.",
    "My mother grew up in Valparaíso.",
    "I moved to St. Ives last year.",
]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("What is my name?", "Thandeka"),
        ("Who am I?", "Thandeka"),
        ("Where do I live?", "Ouagadougou"),
        ("What am I allergic to?", "hazelnuts"),
        ("What's my favorite color?", "vermilion"),
        ("What do I do for a living?", "cartographer"),
        ("what's my job", "cartographer"),
        ("What are my ferrets called?", "Biscuit"),
        ("What pets do I have?", "Biscuit"),
        ("When was I born?", "1987"),
        ("What is my sister called?", "Xiomara"),
        ("Where does my brother live?", "Tallinn"),
        ("Which instrument do I play?", "hurdy"),
        ("What car do I drive?", "Trabant"),
        ("When is my birthday?", "3rd"),
        ("What did I study?", "marine"),
        ("Where did my mother grow up?", "Valparaíso"),
        ("Where did I move to?", "St. Ives"),
        ("What kind of food do I like?", "Ethiopian"),
    ],
)
def test_the_best_line_comes_first(question: str, word: str) -> None:
    found, sure = best_matches(question, LINES)
    assert word in found[0]
    assert sure
    assert best_matches(question, [line for line in LINES if word not in line])[0][:1] != found[:1]


@pytest.mark.parametrize(
    "question", ["What's my shoe size?", "Who is the president of France?", "", "???", "Do I?"]
)
def test_what_nobody_said_is_not_found(question: str) -> None:
    assert best_matches(question, LINES) == ([], False)


def test_a_line_that_fits_half_is_found_without_confidence() -> None:
    found, sure = best_matches("What is my dog's name?", LINES)
    assert found
    assert not sure


@given(st.text(), st.lists(st.text()))
def test_no_text_breaks_the_rules(text: str, lines: list[str]) -> None:
    for sentence in split_sentences(text):
        stated_fact(sentence)
        is_question(sentence)
    found, _ = best_matches(text, lines)
    assert set(found) <= set(lines)
