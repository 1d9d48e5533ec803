"""What both tabulated backbones share: the forms of the table, and outputs in the cube on the ramps."""

import torch

from helpers.compiler_cases import random_inputs, small
from promptreach.compiler.gallery import gallery_function, random_function

NAME = "single_layer"


def test_wide_and_narrow_are_the_same_function():
    wide, narrow = small(1, 1, 0.1, NAME), small(1, 1, 0.1, NAME, form="narrow")
    prompt, x = wide.prompt_for(random_function(1, 1, 1.0, 3)), random_inputs(1, 1, 1000)
    assert torch.equal(wide(x, prompt), narrow(x, prompt))
    assert narrow.plan.width < 20 < wide.plan.width


def test_outputs_stay_in_the_cube_also_on_the_ramps():
    backbone = small(1, 1, 0.1, NAME)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    edges = backbone.edges()[1:-1].reshape(-1, 2)
    x = torch.cat([edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * torch.linspace(0, 1, 101)]).reshape(-1, 1, 1)
    assert not bool(backbone.good(x).all())
    found = backbone(x, prompt)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
