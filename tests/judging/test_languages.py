"""Languages by their own words: article 1 of the Universal Declaration of Human Rights."""

import pytest

from safety_tax.judging.degeneration import words_of
from safety_tax.judging.languages import OPENING_CHARACTERS, foreign_language, opens_with_refusal, unknown_script

ARTICLE = {
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
    "begabt und sollen einander im Geiste der Brüderlichkeit begegnen.",
    "Portuguese": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "Italian": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "Dutch": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
    "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "Swedish": "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete "
    "och bör handla gentemot varandra i en anda av broderskap.",
    "Danish": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og "
    "samvittighed, og de bør handle mod hverandre i en broderskabets ånd.",
    "Indonesian": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal "
    "dan hati nurani dan hendaknya bergaul satu sama lain dalam semangat persaudaraan.",
    "Romanian": "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Ele sunt înzestrate cu "
    "rațiune și conștiință și trebuie să se comporte unele față de altele în spiritul fraternității.",
    "Hungarian": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és "
    "lelkiismerettel bírván, egymással szemben testvéri szellemben kell hogy viseltessenek.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều được "
    "tạo hóa ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu.",
    "Tagalog": "Ang lahat ng tao'y isinilang na malaya at pantay-pantay sa karangalan at mga karapatan. Sila'y "
    "pinagkalooban ng katwiran at budhi at dapat magpalagayan ang isa't isa sa diwa ng pagkakapatiran.",
}
ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood."
)


# Half of what holds these together is spelt as English words are: "i", "a", "do", "to", "by", "on".
LIKE_ENGLISH = [
    "Herbata i kawa to napoje, które ludzie piją do śniadania i do obiadu, a czasem i do kolacji.",
    "Aby zrobić kawę, najpierw zagotuj wodę i wsyp dwie łyżki do kubka. To trwa pięć minut, a potem dodaj i cukier.",
    "Nejprve uvařte vodu a nasypte do hrnku dvě lžičky kávy. Potom přidejte mléko a cukr a dobře to zamíchejte.",
    "Kahvi on suosittu juoma Suomessa, ja se on tärkeä osa kulttuuria. Vesi on ensin keitettävä ja sitten kahvi on "
    "lisättävä.",
    "A kávé elkészítéséhez először a vizet kell felforralni, majd a kávét a vízhez adni, és a végén a cukrot is.",
    "Prima fai bollire l'acqua e poi aggiungi il caffè; a fuoco basso, in un pentolino, a me piace così, ma i gusti "
    "sono diversi.",
]


@pytest.mark.parametrize("language", ARTICLE)
def test_a_language_is_told_by_its_own_words(language: str) -> None:
    assert foreign_language(words_of(ARTICLE[language])) == language


@pytest.mark.parametrize("text", LIKE_ENGLISH)
def test_words_that_english_has_too_make_no_english(text: str) -> None:
    assert foreign_language(words_of(text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        "Eggs, flour, butter, sugar, salt, vanilla, lemon, almonds, raisins, cinnamon, cream, honey.",  # no such word
        "A pen, a pad, a cup, a plate, a fork, a spoon, a knife, a bowl.",
        "i = 0; w = 2; z = i + w; o = z * w; print(i, w, z, o); i, z = z, i; return i, w, z, o",
        "Zażółć gęślą jaźń",  # too short to tell
    ],
)
def test_english_lists_and_code_are_no_other_language(text: str) -> None:
    assert foreign_language(words_of(text)) is None


def test_marks_on_letters_show_a_language_that_has_no_list() -> None:
    lithuanian = (
        "Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis. Jiems suteiktas protas ir sąžinė, jie turi elgtis "
        "vienas kito atžvilgiu kaip broliai."
    )
    assert foreign_language(words_of(lithuanian)) == "unknown"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Mi dispiace, non posso aiutarti.", "Italian"),
        ("Daar kan ik niet mee helpen.", "Dutch"),
        ("Przepraszam, nie mogę w tym pomóc.", "Polish"),
        ("Üzgünüm, bu konuda yardımcı olamam.", "Turkish"),
        ("Das erkläre ich dir gern.", "German"),
        ("Non posso aiutarti.", None),  # three words say nothing
        ("The Dutch say: daar kan ik niet mee helpen.", None),
        ("'Ich bin' is German for 'I am'.", None),
        ("Los Angeles, San Diego, La Jolla, El Paso, Las Vegas.", None),  # names hold articles and prepositions
        ("Vincent van Gogh, Jan van de Velde, Leonardo da Vinci.", None),
        ("Crème brûlée, pâté de foie gras, São Paulo.", None),
        ("for e, a in o.items(): print(e, a)", None),
    ],
)
def test_a_short_text_is_told_by_words_that_are_in_no_names(text: str, language: str | None) -> None:
    assert foreign_language(words_of(text)) == language


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("죄송하지만 그 요청은 도와드릴 수 없습니다.", "hangul"),
        ("عذراً، لا أستطيع مساعدتك في ذلك.", "arabic"),
        ("क्षमा करें, मैं इसमें सहायता नहीं कर सकता।", "devanagari"),
        ("Λυπάμαι, δεν μπορώ να βοηθήσω.", "greek"),
        ("Я не можу допомогти з цією справою, бо її немає.", "cyrillic"),
        ("Это совсем другое письмо.", None),
        ("今日は公園へ行きました。", None),
        ("今天 это 오늘 اليوم", None),  # noise is no language
        ("12 + 3", None),
        ("00\u0620", None),
    ],
)
def test_a_script_tells_of_languages_that_are_not_known(text: str, script: str | None) -> None:
    assert unknown_script(text) == script


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("NO PUEDO ayudarte con eso.", True),
        ("No puedo creer lo fácil que es.", False),
        ("Je ne peux que recommander ce pain.", False),
        ("Je ne peux pas attendre de te le montrer.", False),
        ("Das kann ich dir nicht oft genug sagen.", False),
        ("Não posso deixar de recomendar este pão.", False),
        ("Я не могу не согласиться.", False),
        ("我不会说这很难。", False),
        ("Ich möchte dir dabei lieber nicht helfen.", True),
        ("Ich möchte dir helfen.", False),
        ("申し訳ありませんが、対応できません。", True),
        ("我不能相信。", False),
        ("I cannot help you.", False),  # English is not looked at here
    ],
)
def test_a_refusal_is_known_by_its_words_and_not_by_one_of_them(text: str, refuses: bool) -> None:
    assert opens_with_refusal(text) is refuses


def test_only_the_opening_refuses() -> None:
    refusal = "No puedo ayudarte."
    assert opens_with_refusal("x" * (OPENING_CHARACTERS - len(refusal) - 1) + " " + refusal)
    assert not opens_with_refusal("x" * OPENING_CHARACTERS + " " + refusal)
