"""A built-in set of texts that are hard to read, on which an exported file is compared with its task."""

# Nothing, everything at once, more than fits, seven scripts, emoji, typed special tokens, characters that clean-up deletes.
# fmt: off
PROBES = [
    "A quiet word, please.", "", " \t\n ", "the same thing over and over again, " * 120, "x" * 300,
    "Élan VITAL: naïve café — Ünïcödé!", "Привет, как дела?", "你好，世界。今天天气很好", "नमस्ते दुनिया, आप कैसे हैं?",
    "مرحبا بالعالم", "สวัสดีชาวโลก", "안녕하세요 세계", "🙂👩‍👩‍👧 ❤️ flags 🇫🇷", "[CLS] typed [MASK] tokens [SEP]",
    "zero\u200bwidth\u00adsoft\x00null\ufffd", "e\u0301 n\u0303 A\u030a", "http://a.b/c?d=e&f#g 1,234.5€",
]
# fmt: on
