"""A compiled backbone as a transformers model: saved and loaded, with its prompt put in front by PEFT."""

import json
import warnings

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from helpers.tolerances import assert_close
from promptreach import SoftPrompt
from promptreach.compiler import CONSTRUCTIONS, PlanTooLargeError, build_backbone
from promptreach.compiler.gallery import gallery_function
from promptreach.errors import AdapterError, InputError, ModelError, OutputError
from promptreach.hf import load_compiled_prompt, save_backbone, save_compiled_prompt, wrap_backbone
from promptreach.hf.compiled import CompiledConfig, CompiledModel, reload_differences

POINTS = 40


@pytest.fixture(scope="module")
def backbone():
    return build_backbone(1, 2, 1.0, 0.2)


@pytest.fixture(scope="module")
def prompt(backbone):
    return backbone.prompt_for(gallery_function("sort", 1, 2, 1.0))


@pytest.fixture(scope="module")
def folders(backbone, prompt, tmp_path_factory):
    root = tmp_path_factory.mktemp("compiled")
    model = save_backbone(root / "model", backbone)
    return model, save_compiled_prompt(root / "prompt", backbone, prompt, str(model))


def draw(backbone, points=POINTS):
    shape = (points, backbone.plan.tokens, backbone.plan.dim)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_every_construction_survives_saving_and_peft(construction, tmp_path):
    smooth = {"curvature": 4.0} if construction == "multilinear" else {}
    backbone = build_backbone(1, 1, 1.0, 0.25, construction, **smooth)
    prompt = backbone.prompt_for(gallery_function("smooth" if smooth else "reverse", 1, 1, 1.0))
    model = AutoModel.from_pretrained(save_backbone(tmp_path / "model", backbone))
    folder = save_compiled_prompt(tmp_path / "prompt", backbone, prompt)
    x = draw(backbone)
    expected = backbone(x, prompt)
    assert float(expected.std()) > 0.01  # a constant would agree too easily
    tuned = load_compiled_prompt(model, folder)
    assert_close(tuned(inputs_embeds=model.embed(x)).values.detach(), expected, "compiled through PEFT")
    rounded = PeftModel.from_pretrained(model, str(folder))
    assert_close(rounded(x).values.detach(), expected, "compiled through PEFT", torch.float32)
    assert reload_differences(tmp_path / "model", folder, backbone, prompt)[0] == 0


def test_the_saved_model_is_the_backbone(backbone, folders):
    loaded = AutoModel.from_pretrained(folders[0])
    assert isinstance(loaded, CompiledModel)
    assert not loaded.training
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    config = json.loads((folders[0] / "config.json").read_text())
    assert "auto_map" not in config  # no remote code
    assert (config["hidden_size"], config["dtype"]) == (backbone.plan.hidden_size, "float64")


def test_the_prompt_is_an_ordinary_peft_folder(backbone, prompt, folders):
    record = json.loads((folders[1] / "adapter_config.json").read_text())
    assert (record["peft_type"], record["task_type"]) == ("PROMPT_TUNING", "FEATURE_EXTRACTION")
    assert (record["num_virtual_tokens"], record["token_dim"]) == (prompt.length, prompt.hidden_size)
    assert torch.equal(load_file(folders[1] / "adapter_model.safetensors")["prompt_embeddings"], prompt.embeddings)


def test_one_model_plays_several_functions_as_peft_switches_prompts(backbone, folders, tmp_path):
    model = AutoModel.from_pretrained(folders[0])
    other = backbone.prompt_for(gallery_function("reverse", 1, 2, 1.0))
    save_compiled_prompt(tmp_path / "other", backbone, other)
    tuned = PeftModel.from_pretrained(model, str(folders[1]), adapter_name="sort")
    tuned.load_adapter(str(tmp_path / "other"), adapter_name="reverse")
    x = draw(backbone)
    tuned.set_adapter("reverse")
    assert_close(tuned(x).values.detach(), backbone(x, other), "compiled through PEFT", torch.float32)
    tuned.set_adapter("sort")
    assert float((tuned(x).values - backbone(x, other)).detach().abs().max()) > 0.1


def test_prompts_of_one_batch_may_differ(backbone, prompt):
    model, x = wrap_backbone(backbone), draw(backbone, 3)
    other = backbone.prompt_for(gallery_function("reverse", 1, 2, 1.0))
    prompts = torch.stack([prompt.embeddings, other.embeddings, prompt.embeddings])
    got = model(inputs_embeds=torch.cat([prompts, model.embed(x)], dim=1)).values
    expected = [backbone(x[i : i + 1], item) for i, item in enumerate((prompt, other, prompt))]
    assert_close(got, torch.cat(expected), "compiled through PEFT")


def test_the_inputs_are_left_as_they_were(backbone, prompt):
    model = wrap_backbone(backbone)
    joined = prompt.join(model.embed(draw(backbone)))
    before = joined.clone()
    first = model(inputs_embeds=joined, return_dict=False)[0]
    assert torch.equal(joined, before)
    assert torch.equal(model(inputs_embeds=joined, attention_mask=torch.ones(joined.shape[:2])).values, first)


def test_an_empty_batch_gives_an_empty_output(backbone, prompt):
    model = wrap_backbone(backbone)
    assert model(inputs_embeds=prompt.join(model.embed(draw(backbone, 0)))).values.shape == (0, 2, 1)


def test_peft_can_train_a_prompt_on_the_frozen_backbone(backbone):
    model = wrap_backbone(backbone)
    config = PromptTuningConfig(task_type=TaskType.FEATURE_EXTRACTION, num_virtual_tokens=4, inference_mode=True)
    tuned = get_peft_model(model, config)
    weight = tuned.prompt_encoder["default"].embedding.weight
    weight.requires_grad_()
    tuned(draw(backbone)).values.square().sum().backward()
    assert weight.grad is not None
    assert bool(weight.grad.isfinite().all())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda joined: {"inputs_embeds": joined[:, :1]}, "inputs_embeds"),
        (lambda joined: {"inputs_embeds": joined[..., 1:]}, "inputs_embeds"),
        (lambda joined: {"inputs_embeds": joined, "attention_mask": torch.zeros(joined.shape[:2])}, "attention_mask"),
        (lambda joined: {"inputs_embeds": joined, "output_hidden_states": True}, "output_hidden_states"),
        (lambda joined: {"inputs_embeds": joined, "output_attentions": True}, "output_attentions"),
    ],
)
def test_wrong_inputs_are_named(backbone, prompt, change, named):
    model = wrap_backbone(backbone)
    with pytest.raises(InputError, match=named):
        model(**change(prompt.join(model.embed(draw(backbone)))))


def test_points_outside_the_cube_are_refused(backbone):
    model = wrap_backbone(backbone)
    for bad in (torch.full((1, 2, 1), 1.5), torch.full((1, 2, 1), float("nan")), torch.rand(1, 3, 1)):
        with pytest.raises(InputError, match="x: "):
            model.embed(bad.double())


def test_a_converted_model_is_refused(folders):
    backbone = build_backbone(1, 2, 1.0, 0.2)  # its own, since it is converted
    model = wrap_backbone(backbone).to(torch.float32)
    with pytest.raises(InputError, match=r"converted to torch\.float32"):
        model(inputs_embeds=torch.zeros(1, 3, backbone.stream.size))
    assert AutoModel.from_pretrained(folders[0], dtype=torch.float32).dtype is torch.float64


def test_weights_that_were_touched_are_refused(backbone, tmp_path):
    folder = save_backbone(tmp_path / "model", backbone)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("lookup.key") or name.endswith("key"))
    tensors[name][0, 0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=name.removeprefix("backbone.")):
        AutoModel.from_pretrained(folder)


def test_a_config_cannot_make_a_machine_run_out_of_memory(folders, tmp_path):
    config = json.loads((folders[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tokens": 6, "dim": 4}))
    tensors = load_file(folders[0] / "model.safetensors")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PlanTooLargeError):
        AutoModel.from_pretrained(tmp_path)
    with pytest.raises(PlanTooLargeError):
        AutoModel.from_pretrained(folders[0], memory=1000)  # the caller's grant reaches the plan


def test_the_config_holds_the_question_and_the_answer_to_peft(backbone):
    config = CompiledConfig.of(backbone.plan)
    assert config.build(2**31).plan == backbone.plan
    record = config.to_dict()
    again = AutoConfig.for_model(record.pop("model_type"), **record)
    assert isinstance(again, CompiledConfig)
    assert (again.tokens, again.num_attention_heads, again.num_hidden_layers) == (2, 1, len(backbone.plan.passes))


def test_a_prompt_of_another_size_is_refused(backbone, folders, tmp_path):
    with pytest.raises(AdapterError, match="of size 3"):
        save_compiled_prompt(tmp_path / "prompt", backbone, SoftPrompt(torch.zeros(2, 3)))
    assert not (tmp_path / "prompt").exists()
    other = wrap_backbone(build_backbone(1, 1, 1.0, 0.2))
    with pytest.raises(AdapterError, match="token_dim"):
        load_compiled_prompt(other, folders[1])


def test_a_prompt_that_float32_would_break_is_saved_with_a_warning(backbone, prompt, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_compiled_prompt(tmp_path / "prompt", backbone, prompt)
    far = prompt.embeddings.clone()
    far[0, backbone.stream.blocks["slot_square"]] = 4097.0**2  # the first square that float32 does not hold
    with pytest.warns(UserWarning, match="moves numbers of this prompt by 1,"):
        save_compiled_prompt(tmp_path / "far", backbone, SoftPrompt(far))
    assert torch.equal(load_file(tmp_path / "far" / "adapter_model.safetensors")["prompt_embeddings"], far)


def test_damaged_prompt_folders_are_refused(backbone, prompt, tmp_path):
    model = wrap_backbone(backbone)
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        load_compiled_prompt(model, tmp_path)
    folder = save_compiled_prompt(tmp_path / "prompt", backbone, prompt)
    (folder / "adapter_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(AdapterError, match="safetensors"):
        load_compiled_prompt(model, folder)


def test_folders_with_something_else_in_them_are_left_alone(backbone, prompt, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for save in (
        lambda: save_backbone(tmp_path, backbone),
        lambda: save_compiled_prompt(tmp_path, backbone, prompt),
    ):
        with pytest.raises(OutputError):
            save()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_saving_and_loading_leave_the_default_dtype(backbone, folders):
    before = torch.get_default_dtype()
    load_compiled_prompt(wrap_backbone(backbone), folders[1])
    assert torch.get_default_dtype() is before
