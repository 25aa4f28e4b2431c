"""Filters name their reason, and leave ordinary notes and abstracts alone."""

import pytest
from clinical_modernbert.corpus.filters import detect_language, drop_reason
from clinical_modernbert.recipe.corpus import FilterSection, LexiconSection

NOTE = "The patient was admitted with chest pain and treated with aspirin. Troponin was negative and he went home the next day."
GERMAN = (
    "Der Patient wurde mit Brustschmerzen in die Klinik aufgenommen und mit Acetylsalicylsäure behandelt, danach konnte er "
    "in gutem Allgemeinzustand nach Hause entlassen werden und stellte sich nicht mehr vor."
)


def reason(text: str, **settings: object) -> str | None:
    section = FilterSection.model_validate(settings)
    return drop_reason(text, section, lexicon=LexiconSection(), language=detect_language(text))


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("abcd", {"min_characters": 5}, "too_short"),
        ("word " * 10, {"max_characters": 10}, "too_long"),
        ("This article has been retracted at the request of the editor.", {}, "boilerplate"),
        ("12 33 44 // 55 66 77 == 88 99 00 -- 11 22", {}, "boilerplate"),
        ("Please call the ward for results of the test.\n" * 30, {}, "repetition"),
        ("pain free at rest today " * 40, {}, "repetition"),
        (GERMAN, {"languages": ["en"]}, "language"),
        (GERMAN, {"languages": ["en", "de"]}, None),
        (NOTE, {"languages": ["en"]}, None),
        (
            "The weather was fine and we walked to the sea and had some ice in the sun.",
            {"min_term_density": 0.05},
            "few_terms",
        ),
        (NOTE, {"min_term_density": 0.05}, None),
    ],
)
def test_reasons(text: str, settings: dict[str, object], expected: str | None) -> None:
    assert reason(text, **settings) == expected


def test_scripts_without_blanks_have_a_language() -> None:
    chinese = (
        "患者因胸痛入院，给予阿司匹林治疗，肌钙蛋白阴性，次日出院回家，随访无不适，血压正常，心电图未见明显异常改变。"
        * 8
    )
    assert detect_language(chinese) == "zh" and reason(chinese, languages=["en"]) == "language"
    assert detect_language("胸痛 chest pain") is None


def test_a_few_words_have_no_language() -> None:
    assert detect_language("Akute Appendizitis ohne Perforation") is None
