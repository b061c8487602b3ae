"""SIGReg is what LeJEPA defines, with the engine's directions, and its gradient matches it."""

from dataclasses import replace

import numpy as np
import pytest

import soma
from soma import sigreg as constants
from soma.architecture import Architecture

ARCHITECTURE = replace(soma.V1, dim=128)


def value(twin, architecture, rows, directions, cap=1 << 30):
    if twin.__name__ == "soma.torch":
        import torch

        from soma.torch.loss import sigreg

        arrays = torch.from_numpy(rows), torch.from_numpy(directions)
    else:
        from jax.numpy import asarray

        from soma.flax.loss import sigreg

        arrays = asarray(rows), asarray(directions)
    return float(sigreg(architecture, *arrays, cap))


def test_collapse_costs_and_normal_samples_do_not(twin):
    random = np.random.default_rng(0)
    directions = constants.directions(ARCHITECTURE, bytes(32))
    normal = random.standard_normal((64, 128)).astype(np.float32)
    one = random.standard_normal(128)
    collapsed = np.tile(one / np.linalg.norm(one) * np.sqrt(128), (64, 1)).astype(np.float32)
    assert value(twin, ARCHITECTURE, normal, directions) == pytest.approx(1.1, abs=0.15)
    assert value(twin, ARCHITECTURE, collapsed, directions) == pytest.approx(66, abs=4)


def test_the_factor_is_the_number_of_samples_up_to_the_cap(twin):
    rows = np.random.default_rng(1).standard_normal((40, 128)).astype(np.float32)
    directions = constants.directions(ARCHITECTURE, bytes(32))
    free, capped = (value(twin, ARCHITECTURE, rows, directions, cap) for cap in (100, 16))
    assert free / 40 == pytest.approx(capped / 16, rel=1e-5)


def test_directions_are_unit_signs_determined_by_the_seed():
    first = constants.directions(ARCHITECTURE, bytes(32))
    assert first.shape == (128, 256) and first.dtype == np.float32
    assert np.allclose(np.linalg.norm(first, axis=0), 1, atol=1e-6)
    assert len(np.unique(first)) == 2
    second = constants.directions(ARCHITECTURE, b"\x01" * 32)
    assert 0.45 < (first == second).mean() < 0.55


def test_both_twins_match_the_gradient_of_the_plain_formula():
    torch = pytest.importorskip("torch")
    from soma.torch.loss import CharacteristicSums, sigreg

    architecture = Architecture(16, 2, 1, 16, 264, 16, 6, 9, 2.5)
    rows = torch.randn(12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows.requires_grad_()
    samples = torch.arange(12) % 4 != 0
    directions = torch.from_numpy(constants.directions(architecture, bytes(32))).double()
    dt, phi, node_weights = constants.nodes(architecture)
    t = dt * torch.arange(1, 9, dtype=torch.float64)[:, None, None]
    projections = (rows @ directions)[samples]
    real, imaginary = (torch.cos(t * projections).mean(1), torch.sin(t * projections).mean(1))
    distance = (real - torch.from_numpy(phi)[:, None]) ** 2 + imaginary**2
    plain = 5 * (torch.from_numpy(node_weights) @ distance).mean()
    ours = sigreg(architecture, rows, directions, 5, samples)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-12)
    [expected] = torch.autograd.grad(plain, rows)
    [found] = torch.autograd.grad(ours, rows)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)
    sums = (projections.detach().requires_grad_(), torch.ones(9, dtype=torch.float64), dt, 8)
    assert torch.autograd.gradcheck(CharacteristicSums.apply, sums)

    jax = pytest.importorskip("jax")
    from soma.flax.loss import sigreg as flax_sigreg

    def loss(rows):
        arrays = directions.float().numpy(), 5, samples.numpy()
        return flax_sigreg(architecture, rows, *arrays)

    gradient = jax.grad(loss)(rows.detach().float().numpy())
    assert np.abs(np.asarray(gradient) - expected.numpy()).max() < 1e-6
