"""Tells the language of a text by its script, its most frequent words and the letters that only one language writes: a
table of our own, without data that has to be fetched. Sure for texts of a few sentences; a text of names, formulas or
single words is said to be unknown. It reads at most `MOST_CHARS` characters, half from each end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MOST_CHARS = 20_000
UNKNOWN = ""
_LEAST_WORDS = 2
"""Known words that a language needs where others share its script."""
_LEAST_SHARE = 0.08
"""Of all words, those of the language that are known."""

_SCRIPTS: Mapping[str, str] = {
    "latin": "a-zA-ZÀ-ɏḀ-ỿ", "cyrillic": "Ѐ-ӿ", "greek": "Ͱ-Ͽἀ-῾", "arabic": "؀-ۿݐ-ݿ", "he": "֐-׿",
    "devanagari": "ऀ-ॿ", "bn": "ঀ-৿", "pa": "਀-੿", "gu": "઀-૿", "or": "଀-୿", "ta": "஀-௿", "te": "ఀ-౿",
    "kn": "ಀ-೿", "ml": "ഀ-ൿ", "si": "඀-෿", "th": "฀-๿", "lo": "຀-໿", "my": "က-႟", "ka": "Ⴀ-ჿ", "am": "ሀ-፿",
    "km": "ក-៿", "hy": "԰-֏", "ko": "ᄀ-ᇿ가-힣", "kana": "ぁ-ヿ", "han": "㐀-䶿一-鿿",
}
_LETTERS = {script: re.compile(f"[{letters}]") for script, letters in _SCRIPTS.items()}
_ONE_LANGUAGE = frozenset(script for script in _SCRIPTS if len(script) == 2) | {"greek"}

_SPECIAL: Mapping[str, Mapping[str, str]] = {
    "cyrillic": {"uk": "іїєґ", "be": "ў", "ru": "ыэё", "sr": "ћђ", "mk": "ѓќѕ"},
    "arabic": {"ur": "ٹڈڑںے", "fa": "پژ"},
    "latin": {"vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ", "pl": "łąęśźż", "cs": "řěů", "ro": "țșăţş",
              "hu": "őű", "tr": "ğı", "de": "ß", "es": "ñ¿¡", "pt": "ãõ"},
}
"""Letters that hardly any other language of the script writes; one of them weighs as much as a known word."""

_WORDS: Mapping[str, Mapping[str, str]] = {
    "latin": {
        "en": "the of and to in is that it for was on are with as be this have from or by not but what which you we "
              "they can will there if so an at has then each how many i he she do all would let now",
        "de": "der die das und ist ein eine nicht zu den mit von auf für im dem sich des auch es ich wir sie er "
              "dass als an werden aus hat bei oder aber nur noch wie wenn sind war",
        "fr": "le la les de des et est un une que qui dans en pour pas sur par plus avec ce cette il elle nous vous "
              "sont du au aux ne se mais ou donc être ont je son sa",
        "es": "el la los las de que y en un una es por con para no se su lo como más pero del al o si entre cuando "
              "sobre este esta son también fue porque tiene muy hay",
        "pt": "o a os as de que e em um uma é por com para não se seu sua como mais mas do da dos das ao no na ou "
              "quando são também foi porque tem muito pela pelo isso você",
        "it": "il lo la gli le di che e un una è per con non si su come più ma del della dei delle al alla nel "
              "nella sono anche o se quando questo questa ha perché essere i da",
        "nl": "de het een en van is dat op te in voor met niet zijn aan er ook als bij maar om door naar dan wordt "
              "uit nog wat heeft we ze hij deze die of",
        "sv": "och att det som en är på för av med till den har inte om ett men jag från så kan vi när var de du "
              "eller ska man sig hon han",
        "da": "og at det som en er på for af med til den har ikke om et men jeg fra så kan vi når var de du eller "
              "skal man sig hun han blev",
        "no": "og at det som en er på for av med til den har ikke om et men jeg fra så kan vi når var de du eller "
              "skal man seg hun han ble",
        "fi": "ja on ei että se hän oli ovat mutta kun niin myös tämä joka kuin sen olla mitä tai jos voi vain sekä "
              "he minä nyt siitä hänen ne",
        "pl": "i w na nie się z do to że jest jak o od po przez dla ale czy są tak oraz być za już tym który która "
              "które ich ma",
        "cs": "a se v na je že to s z do o i jako ale za by jsou pro tak jeho který která které není jsem ve když "
              "nebo po",
        "ro": "și în de la cu pe că nu o un este din pentru mai sunt care a fi ca sau dar ce lui prin după acest "
              "această al",
        "hu": "a az és hogy nem is egy van ez de csak meg mint már még volt vagy ha el ki minden aki amely lehet "
              "nagyon",
        "tr": "ve bir bu için ile de da çok olarak daha gibi ne en var olan sonra kadar ama ya her mi o değil şey "
              "ki",
        "vi": "và của là có không được cho trong một các với những người này đã để khi từ tôi về ra vào như thì",
        "id": "yang dan di dari untuk dengan ini itu pada adalah dalam tidak akan ke oleh juga atau dapat telah "
              "karena mereka kami saya ada lebih bisa",
        "sw": "na ya wa ni kwa katika la za kama hii hiyo yake wake lakini pia au ili watu sana kuwa hivyo cha vya "
              "huu hizo moja kila",
        "ca": "el la els les de que i en un una és per amb no es com més però del al o si quan aquest aquesta són "
              "també dels molt hi ha",
        "hr": "i u je na da se za od su s sa koji koja koje ne kao što ali ili iz o po biti ovo bi nije to",
        "tl": "ang ng sa na mga at ay ito para hindi ko mo siya ka may kung si nang isang din",
    },
    "cyrillic": {
        "ru": "и в не на что с как это по но из у за от так для же вы мы он она они или если было есть быть может "
              "когда",
        "uk": "і в не на що з як це та до у за від так для але ви ми він вона вони або якщо було є бути може коли "
              "про",
        "bg": "и в не на че с как това по но от за да се са е или ако ще като които който може когато има съм към "
              "при",
        "sr": "и у не на да је се за од су са који која које као што али или из о по бити ово није то",
        "mk": "и во не на дека со како ова по но од за да се се е или ако ќе што кои кој може кога има",
    },
    "arabic": {
        "ar": "في من على إلى أن هذا هذه التي الذي مع عن كان لا ما هو هي كل أو بين ذلك قد لم ثم بعد",
        "fa": "و در به از که این را با است برای آن می یک خود تا شود بر هم نیز های اما یا شده کرد بود",
        "ur": "کے کی میں ہے کا اور سے کو ہیں نے پر یہ کہ ایک بھی اس جو نہیں تھا کر لیے ہو گیا تو وہ",
    },
    "devanagari": {
        "hi": "है के में की और को से का हैं एक यह पर नहीं कि भी जो तो इस ने हो कर लिए था वह गया अपने",
        "mr": "आहे आणि च्या या की हे ते तो ती एक नाही मध्ये आहेत साठी होते त्या हा व पण करून होता असे मी आपण",
        "ne": "छ र को मा लाई का हो यो एक पनि छन् गर्न भएको हुन्छ थियो तर गर्ने त्यो म भने यस लागि गरेको तपाईं",
    },
}
_WORD = re.compile(r"[^\W\d_]+(?:[\u0900-\u097f\u064b-\u065f\u0300-\u036f]+[^\W\d_]*)*")
_SYMBOLS = re.compile(r"```.*?(?:```|\Z)|\$[^$\n]*\$|\\[a-zA-Z]+|https?://\S+", re.DOTALL)
"""Code, formulas, commands and addresses are in no language."""


@dataclass(frozen=True)
class Told:
    """The language of a text."""

    code: str
    """ISO 639-1; empty where it cannot be told."""
    share: float = 0.0
    """Of its words, or letters where the script decides, those that speak for it."""


def language_of(text: str) -> Told:
    """The language that most of `text` is in."""
    plain = _SYMBOLS.sub(" ", _ends_of(text))
    return _told(plain, _letters(plain))


def _told(text: str, letters: Mapping[str, int]) -> Told:
    """letters: of `text`, as `_letters` counts them."""
    total = sum(letters.values())
    if not total:
        return Told(UNKNOWN)
    east = letters["han"] + letters["kana"] + letters["ko"]
    script, count = max(letters.items(), key=lambda one: one[1])
    if east * 3 > count and script in ("latin", "han", "kana", "ko"):  # one sign says what three letters say
        if letters["ko"] * 2 > east:
            return Told("ko", letters["ko"] / total)
        is_japanese = letters["kana"] * 12 > east
        return Told("ja" if is_japanese else "zh", (east if is_japanese else letters["han"]) / total)
    if script in _ONE_LANGUAGE:
        return Told("el" if script == "greek" else script, count / total)
    return _by_words(script, text)


def _by_words(script: str, text: str) -> Told:
    small = text.lower()
    words = [word for word in _WORD.findall(small) if len(word) > 1 or script != "latin"]
    counts = Counter(words)
    scores = {code: float(sum(counts[word] for word in known if word in counts))
              for code, known in _KNOWN[script].items()}
    for code, special in _SPECIAL.get(script, {}).items():
        scores[code] = scores.get(code, 0.0) + sum(map(small.count, special))
    best = max(scores, key=lambda code: scores[code])
    share = min(1.0, scores[best] / max(1, len(words)))
    if scores[best] < min(_LEAST_WORDS, len(words)) or share < _LEAST_SHARE or not scores[best]:
        return Told(UNKNOWN)
    return Told(best, share)


_KNOWN = {script: {code: frozenset(words.split()) for code, words in table.items()}
          for script, table in _WORDS.items()}


def _letters(text: str) -> dict[str, int]:
    return {script: len(pattern.findall(text)) for script, pattern in _LETTERS.items()}


def _ends_of(text: str) -> str:
    half = MOST_CHARS // 2
    return text if len(text) <= MOST_CHARS else f"{text[:half]}\n{text[-half:]}"


def share_elsewhere(text: str, code: str) -> float:
    """Of the letters of `text`, the share that stands in lines which are told to be in another language than `code`, or
    that another script than that of the line's language writes. 0 for a text without letters. A word of three letters
    or fewer in another script is a name of something and counts for nothing."""
    elsewhere, total = 0, 0
    for line in _lines(_SYMBOLS.sub(" ", _ends_of(text))):
        letters = _letters(line)
        count = sum(letters.values())
        total += count
        told = _told(line, letters).code if count >= _LEAST_LETTERS else UNKNOWN
        if told not in (UNKNOWN, code):
            elsewhere += count
            continue
        own = _scripts_of(told or code)
        elsewhere += sum(len(run) for script in letters if script not in own and letters[script]
                         for run in _RUNS[script].findall(line))
    return elsewhere / total if total else 0.0


_LEAST_LETTERS = 30
"""A shorter line is not told by itself."""
_RUNS = {script: re.compile(f"[{letters}]" + ("+" if script in ("han", "kana", "ko") else "{4,}"))
         for script, letters in _SCRIPTS.items()}


def _scripts_of(code: str) -> frozenset[str]:
    if code in ("zh", "ja", "ko"):
        return frozenset({"han", "kana", "ko"} if code != "zh" else {"han"})
    if code == "el":
        return frozenset({"greek"})
    for script, table in _WORDS.items():
        if code in table:
            return frozenset({script})
    return frozenset({code})


def _lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        if line.strip():
            yield line
