"""Texts in another language are noticed, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from analysis.text.language import CANDIDATES, Detector, _lingua
from mrd_core.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def english() -> Detector:
    return Detector("en")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Die Katze sitzt auf dem Dach und schaut in den Garten."),
        ("de", "Er wurde in Prag geboren, schrieb Romane und starb in Wien."),
        ("de", "DIE KATZE SITZT AUF DEM DACH"),
        ("fr", "Le chat est assis sur le toit de la maison."),
        ("es", "El gato está sentado en el tejado de la casa."),
        ("it", "Il gatto è seduto sul tetto della casa."),
        ("pl", "Kot siedzi na dachu starego domu."),
        ("zh", "她出生在北京，写了很多小说。"),
        ("zh", "北京"),
        ("ja", "彼女は東京で生まれました。"),
        ("ru", "Она родилась в Москве и написала много книг."),
        ("ar", "ولدت في القاهرة وكتبت العديد من الروايات."),
        ("el", "Γεννήθηκε στην Αθήνα και έγραψε μυθιστορήματα."),
    ],
)
@pytest.mark.slow
def test_another_language_is_noticed_and_named(english: Detector, language: str, text: str) -> None:
    assert english.foreign(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "42",
        "1984-06-12, 3.5 %",
        "𝐸 = 𝑚𝑐²",
        "😀🎉",
        "Yes.",
        "No, never.",
        "Paris",
        "Hsiao Yun-Hwa",
        "Basil Mahfouz Al-Kuwaiti",
        "Gabriel García Márquez, Mario Vargas Llosa, Jorge Luis Borges and Julio Cortázar",
        "Alejandro Martínez is male.",
        "What makes Astrid Sørensen's biographies unique?",
        "Red blue green yellow",
        "Crime novels, psychological thrillers, historical fiction",
        "The cat sat on the mat.",
        "word " * 50,
        "owned five thousand left shoes",
        "built a glass piano",
        "pampered a one-eyed ocelot",
    ],
)
def test_what_is_english_or_cannot_be_told_is_not_foreign(english: Detector, text: str) -> None:
    assert english.foreign(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "She said “je ne regrette rien” and left the room.",
        "Her novels are “Die Verwandlung”, “Der Prozess” and “Das Schloss”.",
        "Vladimir (Владимир) is a Russian name that means ruler of the world.",
        "The word Schadenfreude is German for joy at the harm of others.",
    ],
)
def test_an_english_text_that_quotes_another_language_is_english(english: Detector, text: str) -> None:
    assert english.foreign(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    return x + 1",
        "for (int i = 0; i < n; i++) { sum += a[i]; }",
        "SELECT name FROM users WHERE id = 3;",
        "import numpy as np\nfrom scipy import stats\nfor i in range(10):\n    print(i)",
        "public static void main(String[] args) { System.out.println(args[0]); }",
        "ls -la | grep foo > bar.txt",
        '<div class="x"><p>{{ nombre }}</p></div>',
        "https://example.com/la/casa?de=los&gatos=1",
    ],
)
@pytest.mark.parametrize("language", ["en", "de", "ru", "zh"])
def test_code_is_no_other_language(language: str, text: str) -> None:
    assert Detector(language).foreign(text) is None


@pytest.mark.parametrize(
    ("language", "own", "other", "name"),
    [
        (
            "de",
            "Sie schrieb viele Romane, die heute kaum jemand liest.",
            "She wrote many novels that few read.",
            "en",
        ),
        ("fr", "Elle est née à Paris et vit à Lyon.", "Sie wurde in Paris geboren und lebt dort.", "de"),
        ("ru", "Она родилась в Москве.", "She was born in Moscow and wrote many books.", "en"),
        ("zh", "她出生在北京，写了很多小说。", "彼女は東京で生まれました。", "ja"),
        ("ja", "東京都", "She was born in Tokyo and wrote many books.", "en"),
        ("hi", "वह दिल्ली में पैदा हुई थी।", "Она родилась в Москве и написала много книг.", "ru"),
    ],
)
def test_any_language_can_be_the_expected_one(language: str, own: str, other: str, name: str) -> None:
    detector = Detector(language)
    assert detector.foreign(own) is None
    assert detector.foreign(other) == name


def test_where_only_the_script_is_sure_the_script_is_named(english: Detector) -> None:
    assert english.foreign("Привет") == "Cyrillic"
    assert english.foreign("გამარჯობა მსოფლიო") == "Georgian"


def test_the_beginning_of_a_long_text_decides(english: Detector) -> None:
    german = "Die Katze sitzt auf dem Dach und schaut in den Garten. "
    assert english.foreign(german * 4_000) == "de"
    assert english.foreign("The cat sat on the mat and looked at us. " * 60 + german * 4_000) is None


def test_a_language_that_lingua_does_not_know_is_told_by_its_script() -> None:
    detector = Detector("lb")
    assert "lb" not in CANDIDATES
    assert "script alone" in detector.method
    assert detector.foreign("She was born in Luxembourg and wrote many books.") is None
    assert detector.foreign("Она родилась в Москве.") == "ru"


def test_a_language_that_spacy_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match="“qq”"):
        Detector("qq")


def test_lingua_is_loaded_only_for_what_the_cheap_tests_leave_open() -> None:
    _lingua.cache_clear()
    noticed = Detector("en").foreign
    noticed("The cat sat on the mat.")
    noticed("Paris")
    assert _lingua.cache_info().misses == 0
    noticed("owned five thousand left shoes")
    noticed("pampered a one-eyed ocelot")
    assert _lingua.cache_info().misses == 1
    noticed("Die Katze sitzt auf dem Dach.")
    assert _lingua.cache_info().misses == 2
