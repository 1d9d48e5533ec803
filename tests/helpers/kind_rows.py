"""A few rows of every kind of task, with answers that the texts tell."""

from typing import Any

from helpers.tasks import sentences

TEXTS = sentences(40, seed=5)
FIRSTS = [text.split()[0] for text in TEXTS]
ROWS: dict[str, list[dict[str, Any]]] = {
    "labels": [{"text": text, "label": "yes" if "cat" in text.split() else "no"} for text in TEXTS],
    "pairs": [
        {"sentence1": text, "sentence2": other, "label": "yes" if "cat" in other.split() else "no"}
        for text, other in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)
    ],
    "several labels": [
        {"text": text, "label": [word for word in ("cat", "dog") if word in text.split()]} for text in TEXTS
    ],
    "number": [{"text": text, "label": 0.5 + len(text.split())} for text in TEXTS],
    "tags": [{"tokens": text.split(), "ner_tags": ["B-IT"] + ["O"] * (len(text.split()) - 1)} for text in TEXTS],
    "span": [{"question": "what is it", "context": text, "answers": [text.split()[0]]} for text in TEXTS],
    "options": [
        {"question": text, "options": ["a cat", "a dog"], "answer": "a cat" if "cat" in text.split() else "a dog"}
        for text in TEXTS
    ],
    "completions": [{"prompt": text, "completion": first} for text, first in zip(TEXTS, FIRSTS, strict=True)],
}
