"""The keys of a YAML file for ``promptreach audit --config``, and what each may hold."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr


def _several(given: object) -> object:
    """A lone value as a list of one."""
    return given if isinstance(given, list | dict) or given is None else [given]


def _number(given: object) -> object:
    """A number, also as YAML leaves 1e-3: as a word; what is true or false is none."""
    if isinstance(given, bool):
        raise ValueError("a valid number")
    return given


# An empty list would pass for a choice that was not made.
Names = Annotated[list[StrictStr], Field(min_length=1), BeforeValidator(_several)]
Words = Annotated[list[StrictStr] | dict[StrictStr, StrictStr], Field(min_length=1), BeforeValidator(_several)]
Numbers = Annotated[list[StrictInt], Field(min_length=1), BeforeValidator(_several)]
_Number = Annotated[float, BeforeValidator(_number)]
_Rates = Annotated[list[_Number], Field(min_length=1)]
Rates = Annotated[_Rates | dict[StrictStr, _Number | _Rates], Field(min_length=1), BeforeValidator(_several)]


class AuditConfig(BaseModel):
    """The options of an audit; each is named as on the command line, with an underscore or a dash between words."""

    model_config = ConfigDict(extra="forbid")

    model: StrictStr | None = None
    data: StrictStr | None = None
    text_col: StrictStr | None = None
    label_col: StrictStr | None = None
    prompt_col: StrictStr | None = None
    completion_col: StrictStr | None = None
    pair_col: StrictStr | None = None
    label_kind: StrictStr | None = None
    words_col: StrictStr | None = None
    tags_col: StrictStr | None = None
    question_col: StrictStr | None = None
    context_col: StrictStr | None = None
    answers_col: StrictStr | None = None
    split_col: StrictStr | None = None
    validation: StrictStr | None = None
    test: StrictStr | None = None
    chat_template: StrictStr | None = None
    options_col: StrictStr | None = None
    options: Words | None = None
    answer_pattern: StrictStr | None = None
    length_normalised: StrictBool | None = None
    instruction: StrictStr | None = None
    shots: StrictInt | None = None
    init_text: StrictStr | None = None
    method_config: StrictStr | None = None
    adapter: StrictStr | None = None
    report_to: Literal["tensorboard", "trackio"] | None = None
    serve_with: Literal["vllm", "sglang", "tensorrt-llm", "llama.cpp", "transformers"] | None = None
    budget: Literal["quick", "standard", "thorough"] | None = None
    metric: StrictStr | None = None
    class_weights: StrictStr | None = None
    methods: Names | None = None
    tokens: Numbers | None = None
    rank: StrictInt | None = None
    lora_targets: Names | None = None
    steps: StrictInt | None = None
    batch_size: StrictInt | None = None
    max_length: StrictInt | None = None
    seeds: StrictInt | None = None
    learning_rates: Rates | None = None
    accumulate: StrictInt | None = None
    out: StrictStr | None = None
    engine: Literal["local", "ray"] | None = None
    workers: StrictInt | None = None
    ray_address: StrictStr | None = None
    seed: StrictInt | None = None
    push_to_hub: StrictStr | None = None
    public: StrictBool | None = None
    base_id: StrictStr | None = None
    resume: StrictBool | None = None
    task: Literal["encoder", "causal", "seq2seq"] | None = None
    revision: StrictStr | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] | None = None
    device: StrictStr | None = None
    device_map: StrictStr | None = None
    num_layers: StrictInt | None = None
    gradient_checkpointing: StrictBool | None = None
    dry_run: StrictBool | None = None
    quiet: StrictBool | None = None
    exit_zero: StrictBool | None = None
