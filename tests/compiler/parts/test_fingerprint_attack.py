"""What certificates and plans refuse in every construction: changed weights, constants and sizes that are none."""

import pytest
import torch

from promptreach.compiler import build_backbone, gallery_function
from promptreach.compiler.build import CONSTRUCTIONS
from promptreach.errors import InputError


def built(construction: str):
    options = {"curvature": 1.0} if construction == "multilinear" else {}
    return build_backbone(1, 1, 1.0, 0.25, construction, **options), gallery_function("average", 1, 1, 1.0)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_changed_weights_get_no_certificate(construction):
    backbone, target = built(construction)
    prompt = backbone.prompt_for(target)
    for weight in (backbone.readout, backbone.position, next(backbone.passes[-1].parameters())):
        kept = weight.clone()
        with torch.no_grad():
            weight.view(-1)[0] += 1
        for certify in (
            lambda: backbone.prompt_for(target),
            lambda: backbone.certify(prompt.embeddings, 1.0),
            lambda: backbone.sup_certificate(prompt),
        ):
            with pytest.raises(InputError, match="weights that its plan does not lead to"):
                certify()
        with torch.no_grad():
            weight.copy_(kept)
    assert backbone.certify(prompt.embeddings, 1.0).recheck()
