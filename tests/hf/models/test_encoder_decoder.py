"""Encoder-decoders against transformers' own loss and PEFT's models, tuned and saved in every way; tiny and random."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from helpers.families import small_module
from helpers.pairs import END, PAIRS, pair_model, pair_module, pair_tokenizer
from helpers.reach import relative
from helpers.tasks import completions, labelled
from helpers.tolerances import TOLERANCES
from promptreach.backbone import Prepended
from promptreach.errors import AdapterError, InputError, ModelError, UnsupportedModelError
from promptreach.hf import OpenModel, attach, capture, load_adapter, open_model, precompute, save_adapter
from promptreach.hf.models.encoder_decoder import EncoderDecoder
from promptreach.prompt import Adapter, Prefix, SoftPrompt
from promptreach.training.methods.methods import METHODS, Shape
from promptreach.training.task.encoding import encode
from promptreach.tuning import fit

ROWS, WRITTEN = [[5, 12, 19, 26, 7, END, 9, 11, END], [21, 8, END, 24, END]], [3, 2]
CLOSE = TOLERANCES["joined states", torch.float32][0]


def own_losses(module: PreTrainedModel) -> Tensor:
    """Transformers' or PEFT's loss of every row by itself, so that nothing is padded."""
    found = []
    for row, written in zip(ROWS, WRITTEN, strict=True):
        read, labels = (torch.tensor([part]) for part in (row[: len(row) - written], row[len(row) - written :]))
        found.append(module(input_ids=read, attention_mask=torch.ones_like(read), labels=labels).loss)
    return torch.stack(found)


def losses(model: OpenModel, joined: Prepended | None = None) -> Tensor:
    """Ours, of both rows in one padded batch, read as a causal model's completions are."""
    logits = model.vocabulary_logits(model.hidden(model.batch(ROWS, WRITTEN), joined))
    found = []
    for states, row, written in zip(logits, ROWS, WRITTEN, strict=True):
        asked = slice(len(row) - written - 1, len(row) - 1)
        found.append(cross_entropy(states[asked], torch.tensor(row[len(row) - written :])))
    return torch.stack(found)


def stepped(model: OpenModel, method: str) -> Adapter:
    """An adapter one step away from its start, so that none of its parts is zero."""
    shape = Shape(tokens=3, rank=2, init=METHODS[method].inits[0])
    with METHODS[method].attach(model, shape, ROWS) as trainable:
        for _ in range(2):
            losses(model, trainable.joined_for(2, 0)).sum().backward()
            with torch.no_grad():
                for tensor in trainable.parameters.values():
                    assert tensor.grad is not None
                    tensor -= 0.1 * tensor.grad / tensor.grad.abs().max().clamp(min=1e-12)
                    tensor.grad = None
        adapter = METHODS[method].adapter(trainable.state(), shape)
    assert adapter is not None
    return adapter


@pytest.mark.parametrize("family", PAIRS)
def test_losses_are_transformers_own_and_pefts(family: str, tmp_path: Path) -> None:
    model, module = pair_model(family), pair_module(family)
    assert isinstance(model, EncoderDecoder)
    assert model.task == "seq2seq"
    before = model.fingerprint
    with torch.no_grad():
        bare = losses(model)
        assert relative(bare, own_losses(module)) <= CLOSE
    for method in ("prompt", "prefix", "lora"):
        assert not model.lacks(method)
        path = save_adapter(tmp_path / method, model, stepped(model, method))
        with torch.no_grad(), attach(model, load_adapter(path, model)) as joined:
            ours = losses(model, joined)
        assert relative(ours, bare) > 1e-3
        if (family, method) != ("t5gemma", "prefix"):  # PEFT does not know its heads
            theirs = PeftModel.from_pretrained(copy.deepcopy(module), str(path)).eval()
            with torch.no_grad():
                assert relative(ours, own_losses(theirs)) <= CLOSE, method
    assert OpenModel.fingerprint.func(model) == before


def test_a_prompt_of_two_parts_is_read_as_peft_runs_it(tmp_path: Path) -> None:
    # PEFT's default for SEQ_2_SEQ_LM; it puts the first part in front of the encoder and never looks at the second.
    model, module = pair_model("t5"), copy.deepcopy(pair_module("t5"))
    shape = {"num_layers": 2, "num_attention_heads": 4, "token_dim": 32}
    config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=4, **shape)
    wrapped = get_peft_model(module, config).eval()
    wrapped.save_pretrained(str(tmp_path))
    read = load_adapter(tmp_path, model)
    assert isinstance(read, SoftPrompt)
    assert read.length == 4
    with torch.no_grad():
        assert relative(losses(model, Prepended.of(read)), own_losses(wrapped)) <= CLOSE
    with pytest.raises(AdapterError, match="num_transformer_submodules 2"):
        load_adapter(tmp_path, model.reading)


@pytest.mark.parametrize("layers", [2, 3])
def test_a_prefix_is_read_as_peft_runs_it(layers: int, tmp_path: Path) -> None:
    # Of an even number of layers PEFT gives the decoder every other one, twice.
    model, module = pair_model("t5"), pair_module("t5")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 3, 4, 4, 8, generator=generator)
    path = save_adapter(tmp_path / "adapter", model, Prefix(drawn[0], drawn[1]))
    assert '"num_transformer_submodules": 2' in (path / "adapter_config.json").read_text()
    if layers == 2:
        with pytest.raises(AdapterError, match="at least the decoder's 3"):
            _cut_to_two_layers(path, model)
        return
    read = load_adapter(path, model)
    assert isinstance(read, Prefix)
    assert torch.equal(read.keys, drawn[0])
    assert torch.equal(read.values, drawn[1])
    theirs = PeftModel.from_pretrained(copy.deepcopy(module), str(path)).eval()
    with torch.no_grad():
        assert relative(losses(model, Prepended.of(read)), own_losses(theirs)) <= CLOSE


def _cut_to_two_layers(path: Path, model: OpenModel) -> None:
    from safetensors.torch import load_file, save_file

    config, weights = path / "adapter_config.json", path / "adapter_model.safetensors"
    config.write_text(config.read_text().replace('"num_layers": 3', '"num_layers": 2'))
    save_file({"prompt_embeddings": load_file(weights)["prompt_embeddings"][:, : 2 * 2 * 32].clone()}, weights)
    load_adapter(path, model)


def test_writing_on_is_the_models_own_generation() -> None:
    model, module = pair_model("bart"), pair_module("bart")
    read = ROWS[0][:6]
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": 4, "forced_eos_token_id": None}
    expected = module.generate(torch.tensor([read]), **settings, eos_token_id=None, forced_bos_token_id=None)
    written: list[int] = []
    with torch.no_grad():
        for _ in range(4):
            hidden = model.hidden(model.batch([read + written], [len(written)]))
            written.append(int(model.vocabulary_logits(hidden[0, -1]).argmax()))
    assert written == expected[0, 1:5].tolist()


def test_both_ends_keep_their_special_tokens_and_a_long_prompt_loses_its_end() -> None:
    model = pair_model("t5")
    encoded = encode(model, completions(12), 64)
    assert encoded.answer_lengths == (2,) * 12
    for ids in encoded.sequences:
        assert (ids[-1], ids[-3]) == (END, END)
        assert ids[-2] == ids[0]
    cut = encode(model, completions(12), 4)
    assert cut.truncated > 0
    assert all(len(ids) <= 4 and ids[-3] == END for ids in cut.sequences)
    assert model.end_token == END


def test_the_encoder_alone_reads_labels() -> None:
    for family in ("t5", "bart", "t5gemma"):
        model = pair_model(family)
        reading = model.reading
        assert reading.task == "encoder"
        batch = reading.batch(ROWS)
        with torch.no_grad():
            own = pair_module(family).get_encoder()(input_ids=batch.input_ids, attention_mask=batch.mask.long())
            assert torch.equal(reading.hidden(batch)[batch.mask], own.last_hidden_state[batch.mask])
    run = fit(pair_model("t5"), labelled(), "prefix", tokens=2, learning_rate=0.1, steps=2, quiet=True)
    assert run.held_out is not None
    assert run.adapter is not None


def test_captures_tell_the_three_kinds_of_attention_apart() -> None:
    model = pair_model("t5")
    assert isinstance(model, EncoderDecoder)
    batch = model.batch(ROWS, WRITTEN)
    for joined, where in (
        (Prepended(prompt=model.vocabulary[:3]), ("encoder", "cross")),
        (Prepended.of(model.cache_of([5, 6, 7])), ("decoder",)),
    ):
        layers = capture(model, batch, joined)
        parts = [model.part_of(layer.layer) for layer in layers]
        assert parts == ["encoder"] * 2 + ["decoder", "cross"] * 3
        assert {part for part, layer in zip(parts, layers, strict=True) if layer.prompt_length == 3} == set(where)
        for part, layer in zip(parts, layers, strict=True):
            read = 6 + (3 if joined.prompt is not None else 0)
            wrote = 4 + (3 if joined.prompt is None else 0)
            keys = wrote if part == "decoder" else read
            assert layer.key.shape[2] == keys
            seen = torch.ones(layer.query.shape[0], layer.query.shape[2], dtype=torch.bool)
            assert layer.rebuilt_error(seen) <= TOLERANCES["captured attention", torch.float32][0]


def test_calls_are_told_where_the_encoder_cannot_be_looked_at() -> None:
    model = open_model(small_module("longt5"))
    assert isinstance(model, EncoderDecoder)
    parts = [model.part_of(layer.layer) for layer in capture(model, model.batch(ROWS, WRITTEN))]
    assert parts == ["decoder", "cross"] * 2


def test_folders_open_as_they_were_saved(tmp_path: Path) -> None:
    pair_module("t5").save_pretrained(tmp_path)
    pair_tokenizer().save_pretrained(tmp_path)
    whole = open_model(tmp_path)
    assert isinstance(whole, EncoderDecoder)
    with torch.no_grad():
        assert torch.equal(losses(whole), losses(pair_model("t5")))
    assert open_model(tmp_path, task="causal").task == "seq2seq"
    alone = open_model(tmp_path, task="encoder")
    assert alone.fingerprint == whole.reading.fingerprint
    assert [len(open_model(tmp_path, num_layers=1).release().get_decoder().block)] == [1]


def test_bad_calls_are_named() -> None:
    module = pair_module("t5")
    with pytest.raises(InputError, match="open_model"):
        OpenModel(module)
    with pytest.raises(InputError, match="different for every input"):
        precompute(pair_model("t5"), SoftPrompt(pair_model("t5").vocabulary[:2].clone()))
    config = copy.deepcopy(pair_module("marian").config)
    config.scale_embedding = True
    assert "multiplies the embeddings" in open_model(AutoModelForSeq2SeqLM.from_config(config)).lacks("prompt")
    lost = copy.deepcopy(module)
    lost.config.decoder_start_token_id = 999
    with pytest.raises(ModelError, match="decoder_start_token_id 999"):
        open_model(lost)
    lost.config.model_type = "whisper"
    with pytest.raises(UnsupportedModelError, match="images or sound"):
        open_model(lost)
