"""The gallery keeps its promises: values in [0, 1], and no slope above the constant that was asked for."""

import pytest
import torch

from helpers.compiler_cases import SIZES, random_inputs
from promptreach.compiler.gallery import GALLERY, RANDOM, fold, gallery_function, random_function
from promptreach.errors import InputError


def steepest(target, points):
    """The largest spectral norm of the Jacobian over the points, by automatic differentiation."""
    jacobians = torch.func.vmap(torch.func.jacrev(lambda x: target.function(x[None])[0].flatten()))(points)
    return float(torch.linalg.matrix_norm(jacobians.flatten(2), ord=2).max())


@pytest.mark.parametrize("name", GALLERY)
@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_no_member_leaves_the_cube_or_is_steeper_than_declared(name, dim, tokens):
    for seed, lipschitz in enumerate((0.3, 1.0, 2.5)):
        target = gallery_function(name, dim, tokens, lipschitz, seed)
        points = random_inputs(dim, tokens, 100, seed)
        values = target.at(points)
        assert bool(((values >= 0) & (values <= 1)).all())
        target.check()
        assert steepest(target, points) <= lipschitz * (1 + 1e-9)


def test_a_member_steeper_than_declared_would_be_seen():
    target = gallery_function("ridge", 1, 2, 1.0)
    assert steepest(target, random_inputs(1, 2, 20)) > 0.9


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_second_derivatives_of_the_smooth_members_are_as_declared(dim, tokens):
    target = gallery_function("smooth", dim, tokens, 1.0, 3)

    def flat(x):
        return target.function(x.reshape(1, tokens, dim))[0].flatten()

    for point in random_inputs(dim, tokens, 30, 1).flatten(1):
        hessian = torch.func.jacfwd(torch.func.jacrev(flat))(point)
        bends = hessian.diagonal(dim1=1, dim2=2).norm(dim=0)
        assert float(bends.max()) <= target.curvature


def test_random_functions_go_through_all_families_and_repeat():
    names = [random_function(1, 2, 1.0, seed).name.split("(")[0] for seed in range(10)]
    assert names == [*RANDOM, *RANDOM]
    x = random_inputs(1, 2, 10)
    for seed in range(5):
        assert torch.equal(random_function(1, 2, 1.0, seed).at(x), random_function(1, 2, 1.0, seed).at(x))
    assert not torch.equal(random_function(1, 2, 1.0, 0).at(x), random_function(1, 2, 1.0, 5).at(x))


def test_fold_runs_to_and_fro():
    assert fold(torch.tensor([-0.25, 0.0, 0.5, 1.0, 1.25, 2.0, 2.5])).tolist() == [0.25, 0, 0.5, 1, 0.75, 0, 0.5]


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="one of ridge"):
        gallery_function("wave", 1, 1, 1.0)
