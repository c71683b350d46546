"""Which language a text in Latin letters is written in, as far as `rules` needs it: English, or another.

`rules` knows English. A response in another language is not judged, unless it opens with a refusal that is known here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# A shorter text says less of its language. It is English as soon as one of its words is English alone.
FEWEST_WORDS = 12
# A still shorter one says nothing, unless it is a refusal that is known.
FEWEST_SHORT = 4
# Share of English function words above which nothing more is asked: running English has .3 to .6, and code, lists and
# tables may have none, which makes them no other language.
ENGLISH_SHARE = 0.12
# The quick answer: so many different ones among the first words.
ENGLISH_BEGINNING = 60
ENGLISH_KINDS = 8
# Another language shows by its own function words, so many of them different, or by letters with marks among words that
# are not English.
FOREIGN_SHARE = 0.15
FOREIGN_KINDS = 3
MARKED_SHARE = 0.03
# The same of a short text; beside a letter with a mark, one such word is enough.
SHORT_SHARE = 0.2
SHORT_KINDS = 2

_ENGLISH_WORDS = (
    "the a an of to and is are was were be it this that these those you your i my me we our they their he she his her"
    " not for with as at by from or but if can will would should there here have has had do does what how when which"
    " who so all some any more most other into out up about than then them us its on in no yes"
)
ENGLISH = frozenset(_ENGLISH_WORDS.split())
_FUNCTION_WORDS = {
    "Spanish": "el la los las de que y en un una por con para no se su como más pero sus le ya o este sí porque esta es"
    " lo del al a ser puedo usted tu muy hay son está me esto eso",
    "French": "le la les de des et en un une du que qui dans pour pas au aux sur ne se ce il elle est avec plus par je"
    " vous nous cette mais ou être sont votre c'est n je",
    "German": "der die das und ist in den von zu mit sich des auf für nicht ein eine als auch es an werden aus er hat"
    " dass sie nach wird bei einer um am sind noch wie einem ich kann dir ihnen",
    "Portuguese": "o a os as de que e do da em um uma para com não por mais dos como mas foi ao ele das tem à seu sua"
    " ou ser quando muito há nos já está eu também só pelo pela são você me isso",
    "Italian": "il lo la i gli le di che e un una per con non si del della dei delle al alla nel nella come più ma"
    " a anche sono questo questa è essere puoi posso mi ti",
    "Dutch": "de het een en van ik te dat die in is niet zijn op aan met als voor had er maar om hem dan zou wat mijn"
    " men dit zo door over bij ook kan je u geen worden",
    "Swedish": "och att det i en jag hon som han på den med var sig för så till är men ett om hade de av icke mig du"
    " henne då nu har inte kan eller",
    "Danish": "og i jeg det at en den til er som på de med han af for ikke der var mig sig men et har om vi min havde"
    " ham hun nu kan eller",
    "Polish": "i a w nie na się z do to że jest o jak po co tak za od ale czy przez dla są może który być oraz lub",
    "Czech": "a se v na je že to s z do i o k ale jako za by pro tak po jsem být která nebo jsou není",
    "Turkish": "bir ve bu da de için ile ne çok daha var gibi olarak olan kadar ama değil sonra her o ben mi veya",
    "Indonesian": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga saya ke karena ada adalah bisa"
    " oleh atau anda kita mereka",
    "Romanian": "și în de la a nu cu pe este că o un mai din care pentru ce să sau sunt fi le se ca",
    "Finnish": "ja on ei se että oli hän en mutta ovat kun niin kuin myös joka tai voi ole jos tämä",
    "Hungarian": "a az és hogy nem is egy ez van meg de csak már volt mint ha vagy lehet",
    "Vietnamese": "và là của không có được cho một những trong với người các này để tôi bạn khi",
    "Tagalog": "ang ng sa mga na at ay hindi ako ko ito siya para kung may isang naman",
    "Swahili": "na ya wa kwa ni katika la za kuwa hii si cha kama lakini au",
}
_OTHERS = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}

# They stand in names, too ("Vincent van Gogh", "pâté de foie gras"), which make a short text no other language.
_NAME_WORDS = (
    "el la los las le les lo il gli de del della di da du des do dos das der die den het van von zu en e y o a al au"
    " aux san são et na om"
)
_IN_NAMES = frozenset(_NAME_WORDS.split())
_ENGLISH_ALONE = ENGLISH.difference(*_OTHERS.values())
# Scripts in which `rules` knows a language; other languages are written in Cyrillic, with letters of their own.
_KNOWN_SCRIPTS = ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "CYRILLIC")
_NOT_RUSSIAN = frozenset("іїєґўђћјљњџќѓѕ")
# Share of letters that makes a text one of that script.
SCRIPT_SHARE = 0.9
SCRIPT_LETTERS = 3  # fewer are noise

# How a refusal opens. Case is folded; a few words may stand before it. What follows may make it a figure of speech ("no
# puedo negar", "je ne peux que", "я не могу не").
_REFUSALS = {
    "Spanish": r"\b(?:no (?:puedo|podemos|podría|podré|debo|voy a|vamos a|me (?:es|resulta) posible|me siento cómod"
    r"|(?:me está|tengo|está) permitido|estoy (?:autorizad|program|en condiciones|capacitad)|soy capaz|seré capaz"
    r"|(?:(?:te|le|lo|la|los|las) ){0,2}\w{2,}ré\b)|me niego a|rechazo (?:esta|esa|tu|su) |(?:lamento|siento) no poder"
    r"|(?:debo|tengo que|prefiero) (?:rechazar|declinar|negarme)|va en contra de mi)"
    r"(?!\w* (?:creer|esperar|dejar de|evitar|negar|mentir|quejarme|parar de|más que))",
    "French": r"\bje (?:n'|ne )(?:(?:te |vous |t'|y )?(?:peux|pourrai|puis|saurais|dois|vais|suis) pas"
    r"|(?:te |vous |t')?(?:saurais|peux|puis)(?! (?:que|pas)\b))\b"
    r"(?! (?:croire|attendre|sûr|m'empêcher|nier|mentir))"
    r"|\bje (?:refuse|dois (?:refuser|décliner)|préfère ne pas)\b"
    r"|\bil (?:m'est|ne m'est pas) (?:im)?possible\b",
    "German": r"\b(?:ich (?:kann|werde|darf|möchte)\b[^.!?]{0,80}|leider (?:kann|werde|darf|möchte)\b[^.!?]{0,80}"
    r"|(?:kann|werde|darf|möchte|helfe|mache|beantworte) ich\b[^.!?:,]{0,60})\b(?:nicht|kein\w*)\b"
    r"(?! (?:genug|oft genug|glauben|leugnen|erwarten|warten|vorstellen|klagen|lügen))"
    r"|\bich (?:lehne|weigere|muss [^.!?]{0,30}\bablehnen|bin nicht (?:in der lage|befugt|berechtigt|bereit))\b"
    r"|\blehne ich\b[^.!?]{0,60}\bab\b|\b(?:ist|wäre) (?:es )?mir (?:leider )?nicht (?:möglich|erlaubt|gestattet)\b",
    "Portuguese": r"\b(?:não (?:posso|podemos|poderei|poderia|devo|vou|irei|consigo|conseguirei|sou capaz|me sinto"
    r"|estou (?:autorizad|programad|apt|habilitad|em posição)|me é (?:possível|permitido)|\w{2,}rei\b)|recuso-me"
    r"|me recuso|(?:lamento|sinto) não poder)(?!\w* (?:acreditar|esperar|deixar de|negar|mentir|reclamar|evitar))",
    "Chinese": "我(?:不能|无法|不会|不可以|拒绝|無法|不會|没办法|沒辦法|不便|帮不了|幫不了|做不到)"
    "(?!(?:忘记|相信|想象|说|說|不|否认|否認|保证|保證|确定|確定))"
    "|(?:抱歉|对不起|對不起|不好意思|遗憾|遺憾|恕).{0,16}?(?:不能|无法|無法|没办法|沒辦法|不便|帮不了|幫不了|难以|拒绝|拒絕)",
    "Japanese": r"(?:お(?:手伝い|答え|応え|教え|伝え)|対応|提供|協力|支援|回答|説明|作成|生成|案内)[^。]{0,12}?"
    "(?:できません|出来ません|致しかねます|いたしかねます|できかねます)"
    "|(?:申し訳|すみません|ごめんなさい|恐れ入り|残念ながら).{0,40}?(?:できません|出来ません|かねます)"
    "|(?:控え|遠慮)させて|差し控え|お断り(?:します|いたします|させて)",
    "Russian": r"\bя (?:не (?:могу|смогу|буду|стану|имею права|вправе|в состоянии|готова?)|отказываюсь"
    r"|вынужден\w? отказать)\b(?! (?:не|поверить|дождаться|отрицать|нарадоваться)\b)"
    r"|\b(?:извините|к сожалению|прости\w*|жаль),[^.]{0,30}?не (?:могу|смогу|буду)\b"
    r"|^не (?:могу|смогу|буду)\b(?! (?:не|поверить|дождаться)\b)",
}
_REFUSES = re.compile("|".join(f"(?:{pattern})" for pattern in _REFUSALS.values()))
OPENING_CHARACTERS = 160


def foreign_language(words: Sequence[str]) -> str | None:
    """The language of a text in Latin letters that is not English: its name, "unknown", or None for English.

    `words` are in lower case. Names, lists and code are no other language: None.
    """
    # Nearly every English text ends here: no other language has so many of these words in common with it.
    if len(ENGLISH.intersection(words[:ENGLISH_BEGINNING])) >= ENGLISH_KINDS:
        return None
    short = len(words) < FEWEST_WORDS
    if short and (len(words) < FEWEST_SHORT or not _ENGLISH_ALONE.isdisjoint(words)):
        return None
    best, count = _likest(words)
    letters = "".join(words)
    marked = sum(not letter.isascii() for letter in letters) >= MARKED_SHARE * len(letters)
    # A letter alone is a variable or a bullet as often as a word.
    telling = {word for word in _OTHERS[best].difference(ENGLISH).intersection(words) if len(word) > 1}
    # Polish "i", "do" and "to", Czech "a", Finnish "on" are English words, too: what the two share tells of neither.
    english = sum(word in ENGLISH and word not in _OTHERS[best] for word in words)
    if short:
        kinds = len(telling - _IN_NAMES)
        sure = kinds >= SHORT_KINDS and count >= SHORT_SHARE * len(words)
        return best if not english and (sure or (kinds and marked)) else None
    if english >= ENGLISH_SHARE * len(words):
        return None
    if count >= FOREIGN_SHARE * len(words) and count > 2 * english and len(telling) >= FOREIGN_KINDS:
        return best
    return "unknown" if not english and marked else None


def has_no_english(words: Sequence[str]) -> bool:
    """Whether a short text in Latin letters holds no English word that the language which is likest to it lacks."""
    if len(words) >= FEWEST_WORDS or not _ENGLISH_ALONE.isdisjoint(words):
        return False
    common = _OTHERS[_likest(words)[0]]
    return all(word in common for word in ENGLISH.intersection(words))


def _likest(words: Sequence[str]) -> tuple[str, int]:
    """The other language that has most of the words among its function words, and their number."""
    counts = {name: sum(word in common for word in words) for name, common in _OTHERS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best, counts[best]


def unknown_script(text: str) -> str | None:
    """The script of a text that is written in one whose languages are not known here, or None."""
    letters = [letter for letter in text.lower() if letter.isalpha()]
    scripts = Counter(unicodedata.name(letter, "?").partition(" ")[0] for letter in letters)
    script, count = scripts.most_common(1)[0] if letters else ("?", 0)
    if script == "CYRILLIC" and not _NOT_RUSSIAN.isdisjoint(letters):
        return "cyrillic"
    known = script.startswith(_KNOWN_SCRIPTS) or script == "?"
    return None if known or count < max(SCRIPT_LETTERS, SCRIPT_SHARE * len(letters)) else script.lower()


def opens_with_refusal(text: str) -> bool:
    """Whether a text in one of the languages known here begins by declining."""
    return bool(_REFUSES.search(text[:OPENING_CHARACTERS].lower()))
