"""Which language a text in Latin letters is written in, as far as `rules` needs it: English, or another.

`rules` knows English. A response in another language is not judged, unless it opens with a refusal that is known here.
"""

import re
from collections.abc import Sequence

# A shorter text says too little of its language.
FEWEST_WORDS = 12
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

_ENGLISH_WORDS = (
    "the a an of to and is are was were be it this that these those you your i my me we our they their he she his her"
    " not for with as at by from or but if can will would should there here have has had do does what how when which"
    " who so all some any more most other into out up about than then them us its on in no yes"
)
ENGLISH = frozenset(_ENGLISH_WORDS.split())
_FUNCTION_WORDS = {
    "Spanish": "el la los las de que y en un una por con para no se su como más pero sus le ya o este sí porque esta es"
    " lo del al a ser puedo usted tu muy hay son está",
    "French": "le la les de des et en un une du que qui dans pour pas au aux sur ne se ce il elle est avec plus par je"
    " vous nous cette mais ou être sont votre c'est n",
    "German": "der die das und ist in den von zu mit sich des auf für nicht ein eine als auch es an werden aus er hat"
    " dass sie nach wird bei einer um am sind noch wie einem ich kann dir ihnen",
    "Portuguese": "o a os as de que e do da em um uma para com não por mais dos como mas foi ao ele das tem à seu sua"
    " ou ser quando muito há nos já está eu também só pelo pela são você",
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

# How a refusal opens. Case is folded; a few words may stand before it.
_REFUSALS = {
    "Spanish": r"\b(?:no (?:puedo|podría|debo|voy a|me es posible|estoy (?:autorizad|program|en condiciones))"
    r"|me niego a|no seré capaz)\b(?! (?:creer|esperar|dejar de|evitar))",
    "French": r"\b(?:je (?:ne (?:peux|pourrai|puis|dois|vais|suis) pas|refuse)"
    r"|il (?:m'est|ne m'est pas) (?:im)?possible)"
    r"\b(?! (?:croire|attendre|sûr))",
    "German": r"\b(?:(?:ich|leider) (?:kann|werde|darf|möchte)(?: ich)?\b[^.!?]{0,80}\b(?:nicht|kein\w*)"
    r"|ich (?:lehne|weigere|muss (?:das )?ablehnen))\b",
    "Portuguese": r"\b(?:não (?:posso|poderei|devo|vou|estou (?:autorizad|programad)|me é possível)|recuso-me)\w*\b"
    r"(?! (?:acreditar|esperar|deixar de))",
    "Chinese": "我(?:不能|无法|不会|不可以|拒绝|無法|不會)(?!(?:忘记|相信|想象))"
    "|(?:抱歉|对不起|對不起).{0,12}?(?:不能|无法|無法)",
    "Japanese": r"(?:お(?:手伝い|答え|応え)|対応|提供|協力|支援|回答|説明)[^。]{0,12}?"
    "(?:できません|出来ません|致しかねます|いたしかねます|できかねます)"
    "|申し訳.{0,30}?(?:できません|出来ません|かねます)",
    "Russian": r"\bя (?:не (?:могу|буду|стану|имею права)|отказываюсь)\b(?! (?:поверить|дождаться))"
    r"|\b(?:извините|к сожалению|прости\w*),[^.]{0,30}?не (?:могу|буду)\b",
}
_REFUSES = re.compile("|".join(f"(?:{pattern})" for pattern in _REFUSALS.values()))
OPENING_CHARACTERS = 160


def foreign_language(words: Sequence[str]) -> str | None:
    """The language of a text in Latin letters that is not English: its name, "unknown", or None for English.

    `words` are in lower case. Names, lists and code are no other language: None.
    """
    # Nearly every English text ends here: no other language has so many of these words in common with it.
    if len(words) < FEWEST_WORDS or len(ENGLISH.intersection(words[:ENGLISH_BEGINNING])) >= ENGLISH_KINDS:
        return None
    counts = {name: sum(word in common for word in words) for name, common in _OTHERS.items()}
    best = max(counts, key=lambda name: counts[name])
    # Polish "i", "do" and "to", Czech "a", Finnish "on" are English words, too: what the two share tells of neither.
    english = sum(word in ENGLISH and word not in _OTHERS[best] for word in words)
    if english >= ENGLISH_SHARE * len(words):
        return None
    # A letter alone is a variable or a bullet as often as a word.
    different = sum(len(word) > 1 for word in _OTHERS[best].difference(ENGLISH).intersection(words))
    if counts[best] >= FOREIGN_SHARE * len(words) and counts[best] > 2 * english and different >= FOREIGN_KINDS:
        return best
    letters = "".join(words)
    marked = sum(not letter.isascii() for letter in letters)
    return "unknown" if not english and marked >= MARKED_SHARE * len(letters) else None


def opens_with_refusal(text: str) -> bool:
    """Whether a text in one of the languages known here begins by declining."""
    return bool(_REFUSES.search(text[:OPENING_CHARACTERS].lower()))
