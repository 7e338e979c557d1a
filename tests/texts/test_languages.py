"""Telling languages by the table."""

import pytest

from localdistill.texts.languages import language_of, share_elsewhere

TEXTS = {
    "en": "The jar is on the table and it is empty, so we have to buy plums.",
    "de": "Das Glas steht auf dem Tisch und ist leer, also müssen wir Pflaumen kaufen.",
    "fr": "Le bocal est sur la table et il est vide, donc nous devons acheter des prunes.",
    "es": "El frasco está en la mesa y está vacío, por lo que tenemos que comprar ciruelas.",
    "pt": "O frasco está na mesa e não tem nada, por isso temos de comprar ameixas.",
    "it": "Il barattolo è sul tavolo ed è vuoto, quindi dobbiamo comprare le prugne per la torta.",
    "nl": "De pot staat op de tafel en is leeg, dus wij moeten pruimen kopen voor het huis.",
    "pl": "Słoik jest na stole i nie ma w nim nic, więc trzeba kupić śliwki.",
    "vi": "Cái lọ ở trên bàn và không có gì, vì vậy chúng ta phải mua mận.",
    "sw": "Chupa iko juu ya meza na ni tupu, kwa hiyo ni lazima kununua matunda.",
    "fi": "Purkki on pöydällä ja se on tyhjä, joten meidän on ostettava luumuja.",
    "tr": "Kavanoz masanın üstünde ve boş, bu yüzden erik almak için bir yere gitmemiz gerekiyor.",
    "ru": "Банка стоит на столе, и она пустая, так что надо купить сливы.",
    "uk": "Банка стоїть на столі, і вона порожня, тому треба купити сливи.",
    "bg": "Бурканът е на масата и е празен, така че трябва да се купят сливи.",
    "ar": "الجرة على الطاولة وهي فارغة، لذلك يجب أن نشتري البرقوق من السوق.",
    "fa": "شیشه روی میز است و خالی است، پس باید از بازار آلو بخریم که خوب است.",
    "ur": "مرتبان میز پر ہے اور وہ خالی ہے، اس لیے ہمیں آلو بخارے خریدنے ہیں۔",
    "hi": "जार मेज पर है और वह खाली है, इसलिए हमें बेर खरीदने हैं।",
    "mr": "बरणी टेबलावर आहे आणि ती रिकामी आहे, म्हणून आपण मनुके घेतले पाहिजेत.",
    "ne": "जार टेबलमा छ र यो खाली छ, त्यसैले हामीले आरुबखडा किन्न पर्ने हुन्छ।",
    "zh": "罐子在桌子上，里面是空的，所以我们要去买李子。",
    "ja": "瓶はテーブルの上にありますが、空なのでプラムを買います。",
    "ko": "병은 테이블 위에 있고 비어 있어서 자두를 사야 합니다.",
    "bn": "বয়ামটি টেবিলের উপর আছে এবং খালি।", "ta": "ஜாடி மேசையில் உள்ளது.", "te": "కూజా బల్ల మీద ఉంది.",
    "kn": "ಜಾಡಿ ಮೇಜಿನ ಮೇಲಿದೆ.", "gu": "બરણી ટેબલ પર છે.", "pa": "ਮਰਤਬਾਨ ਮੇਜ਼ ਉੱਤੇ ਹੈ।", "th": "ขวดโหลอยู่บนโต๊ะ",
    "el": "Το βάζο είναι άδειο.", "he": "הצנצנת על השולחן.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_a_sentence_tells_its_language(code: str) -> None:
    assert language_of(TEXTS[code]).code == code
    assert share_elsewhere(TEXTS[code], code) == 0


@pytest.mark.parametrize("text", ["", "42", "$x^2 + y^2$", "\\boxed{5}", "Qwxrt zzyp", "a = b", "\ud800"])
def test_what_is_in_no_language_is_unknown(text: str) -> None:
    assert language_of(text).code == ""


def test_lines_in_another_language_and_words_in_another_script_are_a_share_elsewhere() -> None:
    mixed = f"{TEXTS['en']}\n{TEXTS['de']}"
    assert 0.4 < share_elsewhere(mixed, "en") < 0.6
    assert 0 < share_elsewhere("The jar is on the table and 所以 it is empty.", "en") < 0.1
    assert share_elsewhere("Let $\\text{答案}$ be the sum of x and y, so we have it.", "en") == 0


def test_long_text_is_told_by_its_ends() -> None:
    assert language_of(TEXTS["fr"] * 20_000).code == "fr"
