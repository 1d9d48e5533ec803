"""The audit of a chat data set on the whole of SmolLM2-135M-Instruct, through its own chat template.

    python benchmarks/tasks/chats.py [--rows 120] [--steps 12] [--out benchmarks/results/chats.json]

Each row is a chat: a user asks whether a film review is fresh or rotten, the assistant answers in one word. The reviews
come in a package, and so does the model. The settings are small, since a row costs this model a second or more.

Config in (the options), JSON out: verdict, headline, every method's held-out score, and minutes.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from promptreach import __version__, audit
from promptreach.claims.packaged import reviews, smollm2

RESULT = Path(__file__).parents[1] / "results" / "chats.json"
ASKED = "Is this film review fresh or rotten? Answer with one word.\n\n{text}"


def chats(count: int) -> list[dict[str, Any]]:
    """So many chats of two turns."""
    data = reviews()
    return [
        {
            "messages": [
                {"role": "user", "content": ASKED.format(text=" ".join(text.split()[:20]))},
                {"role": "assistant", "content": data.label_names[label]},
            ]
        }
        for text, label in zip(data.texts[:count], data.labels[:count], strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    settings: dict[str, Any] = {"budget": "quick", "steps": given.steps, "batch_size": 4, "tokens": (4,)}
    settings |= {"methods": ("prompt", "lora"), "learning_rates": {"prompt": 0.1, "lora": 0.001}, "max_length": 80}
    began, used = time.monotonic(), time.process_time()
    result = audit(smollm2(), chats(given.rows), **settings)
    found = {finding.check: finding for finding in result.findings}
    report = {
        "version": __version__,
        "torch": torch.__version__,
        "rows": given.rows,
        "settings": settings,
        "verdict": str(result.verdict.value),
        "headline": result.headline,
        "reasons": [reason.text for reason in result.reasons],
        "methods": found["training"].values["methods"],
        "checks": {check: finding.status for check, finding in found.items()},
        "minutes": round((time.monotonic() - began) / 60, 1),
        "processor_minutes": round((time.process_time() - used) / 60, 1),
    }
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
