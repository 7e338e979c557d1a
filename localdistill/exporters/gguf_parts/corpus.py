"""Strings and prompts for the parity gate: the same on every machine, chosen to tell pre-tokenizers apart. Everything
here is ours; nothing is read from files."""

from __future__ import annotations

import random
from collections.abc import Sequence

from localdistill.templates.marks import MARKS
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END

STRINGS = 1000

_WORDS = (
    "apple", "The", "running", "don't", "we'll", "I'M", "they've", "Zürich", "naïve", "été", "Straße", "señor",
    "čeština", "Привет", "мир", "Ελλάδα", "שלום", "مرحبا", "नमस्ते", "สวัสดี", "東京", "中文字符", "한국어",
    "ひらがな", "カタカナ", "Việt", "İstanbul", "snake_case", "camelCase", "HTTPServer", "x1y2", "a-b", "e.g.",
    "etc", "__init__", "http://a.b/c?d=e&f=1#g",
)
_NUMBERS = (
    "0", "7", "10", "42", "123", "1000", "12345", "3.14159", "1,234,567", "-5", "+8", "1e-5", "0x1F", "50%",
    "$19.99", "½", "²", "Ⅷ", "٣٤", "१२", "2024-02-29", "12:34:56", "(555) 010-9999", "7/8", "3×4=12",
)
_BLANKS = (
    " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", " \n", "\n ", "\r\n", "\t\t", " \t ", "    ", "\u00a0",
    "\u3000",
)
_MARKS = (
    ".", ",", "!", "?", "...", "—", "–", "“", "”", "'", '"', "(", ")", "[]", "{}", "<", ">", "=", "==", "->", "=>",
    "+", "*", "/", "\\", "|", "&&", "#", "@", "~", "`", "```", "^", "°", "€", "£", "≤", "∑", "√", "·", "•", "…",
    "、", "。", "！", "://",
)
_EMOJI = (
    "😀", "👍🏽", "👩‍💻", "🇩🇪", "❤️", "🚀", "✅", "🤖",
)
_TAGS = (
    *dict.fromkeys(text for mark in MARKS for text in (mark.opening, mark.closing) if text), THOUGHT_BEGIN, THOUGHT_END,
    "<answer>", "</answer>", "\\boxed{7}", "#### 12", "<|x|>", "<s>",
)
_CODE = (
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n",
    "SELECT * FROM t WHERE a >= 10;\n", "if not x:\n        pass\n", "{\"key\": [1, 2.5, null, true]}",
    "<div class=\"a\">b</div>", "$ ls -la | grep '^d' > out.txt", "\\frac{1}{2} + \\sqrt{3}",
    "#include <stdio.h>\n", "λx. x + 1", "a[0][1] != b['c']",
)

PROMPTS = (
    "Tom has 12 apples and gives 5 away. How many are left?",
    "List three colours, one per line.",
    "What is 17 + 25? Answer with the number only.",
    "Write a short sentence about the sea.",
    "A box holds 8 eggs. How many eggs are in 3 boxes? Think step by step.",
    "Repeat this word: café.",
)


def parity_strings(added_tokens: Sequence[str], given: Sequence[str] = ()) -> list[str]:
    """At least `STRINGS` distinct strings: single pieces, mixtures, every added token in several surroundings, and
    the ones that were given."""
    pieces = [*_WORDS, *_NUMBERS, *_BLANKS, *_MARKS, *_EMOJI, *_TAGS, *_CODE]
    found = dict.fromkeys([*given, *pieces])
    for token in added_tokens:
        found |= dict.fromkeys((token, f"a{token}b", f" {token} ", f"\n{token}\n", f"{token}{token}", token[:-1]))
    rng = random.Random(20250413)
    while len(found) < STRINGS + len(given):
        parts = []
        for _ in range(rng.randint(2, 14)):
            parts.append(rng.choice(rng.choice((_WORDS, _WORDS, _NUMBERS, _BLANKS, _MARKS, _EMOJI, _TAGS, _CODE))))
            parts.append(rng.choice((" ", " ", "", "", "\n", "  ")))
        if added_tokens and rng.random() < 0.2:
            parts.insert(rng.randrange(len(parts)), rng.choice(list(added_tokens)))
        found["".join(parts)] = None
    return [text for text in found if text]
