"""A realistic audit result for tests of the writers. Every number in it is a made-up SAMPLE, not a measurement."""

import io
import math
from typing import Any

from rich.console import Console

from promptreach.audit import AuditResult
from promptreach.certificate import Assumption, Certificate, Evidence, Side
from promptreach.report.findings import Code, Curve, Finding, Heatmap, Series, Table, Text
from promptreach.report.result import Reason, Recommendation, TuningVerdict
from promptreach.report.text import print_summary

SAMPLE = "SAMPLE NUMBERS: 1,500 training and 800 held-out rows, 3 seeds"

HOSTILE = (
    "<script>alert(1)</script></style></title><img src=x onerror=alert(2)>"
    "\"' onload=alert(3) {{ 7 * 7 }} {% raw %} &amp; <!-- --> ]]> "
    "\u202eright to left\u202c שלום 你好 \U0001f642"
)
"""Dataset text that tries to leave its place in a page."""


def sample_result(
    verdict: TuningVerdict = TuningVerdict.FORM, num_layers: int = 30, num_heads: int = 9, num_heatmaps: int = 2
) -> AuditResult:
    """An audit of a small language model on a sentiment task, as a practitioner would see it."""
    return AuditResult(
        verdict=verdict,
        evidence=Evidence.MEASURED,
        headline="No number of virtual tokens closes the gap to LoRA here: use LoRA with rank 8.",
        reasons=[
            Reason(
                text="LoRA with rank 8 answers 78.9 % of the held-out rows; the best prompt of any length 61.4 %.",
                evidence=Evidence.MEASURED,
                check="methods",
            ),
            Reason(
                text="From 16 tokens on, more tokens change nothing: 32 and 64 tokens stay within the seeds' spread.",
                evidence=Evidence.MEASURED,
                check="capacity",
            ),
            Reason(
                text="For one pair of training rows no prefix at all can give both answers with layer 0 alone.",
                evidence=Evidence.PROVED,
                check="limits",
            ),
            Reason(
                text="Training longer is not expected to change the order of the methods.",
                evidence=Evidence.PREDICTED,
                check="prediction",
            ),
        ],
        recommendation=_recommendation(),
        findings=_findings(num_layers, num_heads, num_heatmaps),
        model={
            "name": "SmolLM2-135M-Instruct",
            "architecture": "LlamaForCausalLM",
            "layers": num_layers,
            "attention heads": num_heads,
            "key-value heads": 3,
            "hidden size": 576,
            "parameters": 134_515_008,
            "attention implementation": None,
        },
        data={
            "source": "reviews.csv (SAMPLE)",
            "rows": 2_300,
            "labels": {"fresh": 1_180, "rotten": 1_120},
            "median length": 24.0,
        },
        settings={"budget": "standard", "seed": 0, "learning_rates": [1e-4, 1e-3, 0.03], "resume": False},
        environment={
            "promptreach": "0.1.0",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "peft": "0.21.2",
            "python": "3.12.4",
            "device": "cpu, 2 threads",
            "commit": "0123456789abcdef0123456789abcdef01234567",
        },
        seconds=1287.4,
    )


def hostile_result(text: str = HOSTILE) -> AuditResult:
    """The sample with `text` appended to every text that could come from a model or a dataset."""

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key in _FIXED else spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return value + text if isinstance(value, str) else value

    return AuditResult.model_validate(spoil(sample_result(num_layers=3, num_heads=2).model_dump()))


def summary_of(result: AuditResult, width: int = 80) -> str:
    """What the terminal shows of `result`."""
    out = io.StringIO()
    print_summary(result, Console(file=out, width=width))
    return out.getvalue()


_FIXED = {"kind", "status", "evidence", "verdict", "method", "language", "check", "certificates"}


def _recommendation() -> Recommendation:
    return Recommendation(
        method="lora",
        text="Train LoRA with rank 8 on the query and value projections. A soft prompt stays 17 points behind at any "
        "length that fits the context.",
        rank=8,
        learning_rate=2e-4,
        init="zero output matrix",
        peft_config={
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": 8,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "target_modules": ["q_proj", "v_proj"],
        },
        blocks=[
            Code(
                title="Load the recommended adapter",
                language="python",
                text="from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
                'model = AutoModelForCausalLM.from_pretrained("SmolLM2-135M-Instruct")\n'
                'model = PeftModel.from_pretrained(model, "report/adapter")',
            ),
            Code(
                title="Repeat this audit with more seeds",
                language="shell",
                text="promptreach audit SmolLM2-135M-Instruct reviews.csv --text-col text --label-col label "
                "--budget thorough --out report",
            ),
        ],
        adapter="adapter",
    )


def _findings(num_layers: int, num_heads: int, num_heatmaps: int) -> list[Finding]:
    return [
        Finding(
            check="methods",
            title="Methods at equal budget",
            evidence=Evidence.MEASURED,
            sample=SAMPLE,
            summary="LoRA leads by 17 points. Every prompt is within the spread of the classification head alone.",
            values={"gap": 0.175, "best": "lora"},
            blocks=[_methods(), Text(text="The spread is the largest minus the smallest of three seeds.")],
            seconds=804.2,
        ),
        Finding(
            check="capacity",
            title="Does the number of tokens bind?",
            evidence=Evidence.MEASURED,
            sample=SAMPLE,
            summary="No. Accuracy stops rising at 16 tokens, far below what the prompt could store.",
            blocks=[_capacity_curve(), _loss_curve()],
            seconds=301.0,
        ),
        Finding(
            check="attention",
            title="Where the prompt reaches",
            evidence=Evidence.MEASURED,
            sample="SAMPLE NUMBERS: 64 held-out rows",
            summary="The prompt takes most of its attention in the first third of the layers.",
            blocks=[_heatmap(index, num_layers, num_heads) for index in range(num_heatmaps)],
            seconds=12.0,
        ),
        Finding(
            check="limits",
            title="What no prefix can do",
            evidence=Evidence.PROVED,
            sample="layer 0, 40 training rows",
            summary="Two rows with different labels end in the same token, and layer 0 cannot tell them apart.",
            blocks=[],
            certificates=[_certificate()],
            seconds=3.2,
        ),
        Finding(
            check="data",
            title="What is in the data",
            evidence=Evidence.MEASURED,
            sample="all 2,300 rows",
            summary="Six rows are exact duplicates; two of them carry different labels.",
            blocks=[_conflicts(), _label_counts()],
            seconds=0.4,
        ),
        Finding(
            check="prediction",
            title="What more training would bring",
            evidence=Evidence.PREDICTED,
            sample="SAMPLE NUMBERS: extrapolated from 200 steps",
            summary="Prompt tuning is predicted to gain 2 points in ten times as many steps.",
            seconds=0.04,
        ),
        Finding(
            check="adapter",
            title="Your existing adapter",
            status="skipped",
            evidence=Evidence.UNKNOWN,
            summary="",
            reason="no adapter folder was given; pass --adapter DIR to have yours compared",
        ),
        Finding(
            check="drift",
            title="What the adapter does to other text",
            status="failed",
            evidence=Evidence.UNKNOWN,
            summary="This number is missing from the report; the verdict does not rest on it.",
            reason="OutOfMemoryError: 5.2 GB asked for, 3.9 GB free",
            seconds=4.0,
        ),
    ]


def _methods() -> Table:
    return Table(
        title="Held-out accuracy and cost",
        columns=["method", "size", "accuracy", "spread", "parameters", "bytes per request", "ms per step"],
        rows=[
            ["majority class", None, 0.513, None, 0, 0, None],
            ["head alone", None, 0.6112, 0.0041, 1_152, 0, 41.0],
            ["prompt tuning", "8 tokens", 0.5803, 0.0312, 4_608, 184_320, 93.25],
            ["prompt tuning", "16 tokens", 0.6139, 0.0187, 9_216, 368_640, 96.5],
            ["prompt tuning", "64 tokens", 0.6120, 0.0202, 36_864, 1_474_560, 118.0],
            ["prefix tuning", "16 tokens", 0.6644, 0.0150, 184_320, 368_640, 88.1],
            ["LoRA", "rank 8", 0.7890, 0.0066, 460_800, 0, 91.7],
            ["full fine-tuning", None, math.nan, None, 134_515_008, 0, math.inf],
        ],
        note="bytes per request: key-value cache that the method adds in float16.",
        highlight=6,
    )


def _capacity_curve() -> Curve:
    tokens = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    return Curve(
        title="Accuracy against prompt length",
        x_label="virtual tokens",
        y_label="accuracy",
        series=[
            Series(name="prompt tuning", x=tokens, y=[0.521, 0.534, 0.552, 0.5803, 0.6139, 0.615, 0.612]),
            Series(name="prefix tuning", x=tokens, y=[0.533, 0.560, 0.602, 0.641, 0.6644, 0.667, math.nan]),
            Series(name="LoRA, rank 8", x=[1.0, 64.0], y=[0.789, 0.789]),
            Series(name="head alone", x=[1.0, 64.0], y=[0.6112, 0.6112]),
        ],
        log_x=True,
        note="The two level lines do not depend on the prompt's length.",
    )


def _loss_curve() -> Curve:
    steps = [float(step) for step in range(0, 201, 10)]
    return Curve(
        title="Training loss",
        x_label="step",
        y_label="loss in nats",
        series=[
            Series(name=f"prompt, learning rate {rate}", x=steps, y=[0.45 + 0.35 * math.exp(-s * k) for s in steps])
            for rate, k in [("0.0001", 0.001), ("0.001", 0.006), ("0.03", 0.03)]
        ],
    )


def _heatmap(index: int, num_layers: int, num_heads: int) -> Heatmap:
    def value(layer: int, head: int) -> float | None:
        if (layer, head) == (num_layers - 1, 0):
            return None
        wave = 0.5 + 0.5 * math.sin(1.7 * head + 0.9 * layer + index)
        return 0.85 * math.exp(-3.0 * layer / num_layers) * wave

    title, unit = [("Attention on the prompt", "of attention"), ("Norm criterion", "of the threshold")][index % 2]
    return Heatmap(
        title=title,
        values=[[value(layer, head) for head in range(num_heads)] for layer in range(num_layers)],
        unit=unit,
        low=0.0,
        note="Mean over the content tokens." if index == 0 else "",
    )


def _certificate() -> Certificate:
    return Certificate(
        claim="for every prefix of any length, the mean squared error of layer 0 over the two rows is at least this",
        value=0.1187,
        side=Side.LOWER,
        evidence=Evidence.PROVED,
        assumptions=(
            Assumption("the two inputs end in the same token", checked=True, detail="compared exactly"),
            Assumption("the layer has no position encoding in its values", checked=True),
        ),
        theorem="A.2",
        witness={"rows": [17, 203]},
    )


def _conflicts() -> Table:
    return Table(
        title="Same text, different labels",
        columns=["row", "text", "label"],
        rows=[
            [17, "A film that <b>almost</b> works, and knows it.", "fresh"],
            [203, "A film that <b>almost</b> works, and knows it.", "rotten"],
        ],
    )


def _label_counts() -> Table:
    rows: list[list[str | int | float | bool | None]] = [
        [f"{low}-{low + 9} words", 310 - 17 * step, step > 12] for step, low in enumerate(range(0, 160, 10))
    ]
    return Table(title="Rows by length", columns=["length", "rows", "cut off by the context"], rows=rows)
