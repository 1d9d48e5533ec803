"""Rows in the shapes of GLUE's eight tasks, of CoNLL's and of SQuAD's, made by rules from any labelled sentences.

The columns, labels and metrics are those of the tasks; the answers follow from rules, which stand below, so that
nothing of those data sets is needed. They say whether a shape runs from file to verdict, and not how a model does on
GLUE.
"""

import csv
import io
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Sentences = Sequence[tuple[str, str]]
"""Texts with the label that they have where they come from."""
_NAME = re.compile(r"[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*")
_BE = re.compile(r"\b(is|are|was|were|has|can|will|does)\b")


@dataclass(frozen=True)
class Shape:
    """One task.

    Attributes:
        rows: makes them of sentences.
        metric: by which the task is judged.
        suffix: of the file that its rows come in.
    """

    rows: Callable[[Sentences, random.Random], list[Row]]
    metric: str
    suffix: str = ".jsonl"

    def text(self, sentences: Sentences, count: int, seed: int = 0) -> str:
        """The file's content: at most so many rows."""
        draw = random.Random(seed)
        rows = self.rows(sentences, draw)
        draw.shuffle(rows)
        rows = [{**row, "idx": at} for at, row in enumerate(rows[:count])]
        if self.suffix == ".jsonl":
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()


def acceptability(sentences: Sentences, draw: random.Random) -> list[Row]:
    """CoLA: a sentence as it is, or with its words in another order."""
    found = []
    for at, (text, _) in enumerate(sentences):
        words = text.split()
        other = draw.sample(words, len(words))
        if other != words:
            found.append({"sentence": text if at % 2 else " ".join(other), "label": at % 2})
    return found


def sentiment(sentences: Sentences, draw: random.Random) -> list[Row]:
    """SST-2: the label that the sentence has."""
    names = sorted({label for _, label in sentences})
    return [{"sentence": text, "label": names.index(label)} for text, label in sentences]


def paraphrase(sentences: Sentences, draw: random.Random) -> list[Row]:
    """MRPC: the clauses of a sentence in another order, or two of its words replaced by another sentence's."""
    found: list[Row] = []
    for text, _ in sentences:
        first, comma, rest = text.rstrip(". ").partition(", ")
        if not comma:
            continue
        other = f"{rest}, {first}" if len(found) % 2 else _replaced(text, 2, sentences, draw)
        found.append({"sentence1": text, "sentence2": other, "label": len(found) % 2})
    return found


def similarity(sentences: Sentences, draw: random.Random) -> list[Row]:
    """STS-B: a sentence and itself with a share of its words replaced; five times the share that was kept."""
    found = []
    for at, (text, _) in enumerate(sentences):
        count, share = len(text.split()), at % 6 / 5
        replaced = round(count * share)
        row = {"sentence1": text, "sentence2": _replaced(text, replaced, sentences, draw)}
        found.append({**row, "score": round(5 * (1 - replaced / count), 2)})
    return found


def questions(sentences: Sentences, draw: random.Random) -> list[Row]:
    """QQP: two ways to ask about the same words, or about other words."""
    words = [" ".join(text.split()[:4]).strip(",.;:") for text, _ in sentences]
    found = []
    for at, topic in enumerate(words):
        other = topic if at % 2 else words[(at + 1) % len(words)]
        row = {"question1": f"What does “{topic}” mean?", "question2": f"Can you tell me how to read “{other}”?"}
        found.append({**row, "is_duplicate": int(topic == other)})
    return found


def inference(sentences: Sentences, draw: random.Random) -> list[Row]:
    """MNLI: a beginning of the premise follows from it, its denial contradicts it, another sentence does neither."""
    found: list[Row] = []
    for text, _ in sentences:
        clause, comma, _ = text.rstrip(". ").partition(", ")
        if not comma or not _BE.search(clause):
            continue
        label = ("entailment", "contradiction", "neutral")[len(found) % 3]
        denied = _BE.sub(lambda match: f"{match[0]} not", clause, count=1)
        other = draw.choice(sentences)[0].partition(", ")[0]
        hypothesis = {"entailment": clause, "contradiction": denied, "neutral": other}[label]
        found.append({"premise": text, "hypothesis": hypothesis, "label": label})
    return found


def answering(sentences: Sentences, draw: random.Random) -> list[Row]:
    """QNLI: whether the sentence holds what the question asks for."""
    found: list[Row] = []
    for row in spans(sentences, draw):
        if row["answers"]["text"]:
            is_other = len(found) % 2
            context = draw.choice(sentences)[0] if is_other else row["context"]
            label = ("entailment", "not_entailment")[is_other]
            found.append({"question": row["question"], "sentence": context, "label": label})
    return found


def entailment(sentences: Sentences, draw: random.Random) -> list[Row]:
    """RTE: the two sides of MNLI."""
    rows = [row for row in inference(sentences, draw) if row["label"] != "neutral"]
    return [
        {
            "sentence1": row["premise"],
            "sentence2": row["hypothesis"],
            "label": "entailment" if row["label"] == "entailment" else "not_entailment",
        }
        for row in rows
    ]


def entities(sentences: Sentences, draw: random.Random) -> list[Row]:
    """CoNLL: capitalised words inside a sentence are names, of one word or of several."""
    found = []
    for text, _ in sentences:
        words, tags = re.findall(r"[\w'’-]+|[^\w\s]", text), list[str]()
        for at, word in enumerate(words):
            is_name = at > 0 and len(word) > 1 and word[0].isupper() and words[at - 1] not in ".!?:“‘'\""
            goes_on = is_name and tags[-1] != "O"
            tags.append("I" if goes_on else "B" if is_name else "O")
        kinds = ["FULL" if "I" in (tags[at : at + 1] + tags[at + 1 : at + 2]) else "ONE" for at in range(len(tags))]
        named = [tag if tag == "O" else f"{tag}-{kind}" for tag, kind in zip(tags, kinds, strict=True)]
        if "B" in tags:
            found.append({"tokens": words, "ner_tags": named})
    return found


def spans(sentences: Sentences, draw: random.Random) -> list[Row]:
    """SQuAD: the name in front of the words that the question asks with, or none where they stand elsewhere."""
    found: list[Row] = []
    for text, _ in sentences:
        match = next((one for one in _NAME.finditer(text) if one.start() > 0), None)
        if match is None or len(behind := text[match.end() :].split()[:5]) < 3 or not text[match.end()].isspace():
            continue
        question = f"Who or what {' '.join(behind).strip('.,;:?!')}?"
        is_there = len(found) % 5 > 0
        context = text if is_there else draw.choice(sentences)[0]
        texts, places = ([match[0]], [match.start()]) if is_there else ([], [])
        answers = {"text": texts, "answer_start": places}
        found.append({"question": question, "context": context, "answers": answers})
    return found


def _replaced(text: str, count: int, sentences: Sentences, draw: random.Random) -> str:
    """The text with so many of its words replaced by words of others."""
    words = text.split()
    for place in draw.sample(range(len(words)), min(count, len(words))):
        words[place] = draw.choice(draw.choice(sentences)[0].split())
    return " ".join(words)


SHAPES: Mapping[str, Shape] = {
    "CoLA": Shape(acceptability, "mcc", ".tsv"),
    "SST-2": Shape(sentiment, "accuracy", ".tsv"),
    "MRPC": Shape(paraphrase, "f1"),
    "STS-B": Shape(similarity, "pearson", ".tsv"),
    "QQP": Shape(questions, "f1"),
    "MNLI": Shape(inference, "accuracy"),
    "QNLI": Shape(answering, "accuracy"),
    "RTE": Shape(entailment, "accuracy"),
    "CoNLL": Shape(entities, "entity_f1"),
    "SQuAD": Shape(spans, "token_f1"),
}
"""The tasks by name."""
