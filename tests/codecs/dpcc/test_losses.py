import numpy as np
import pytest
import torch

from pccbench.codecs.dpcc import losses


def cube(step=1.0):
    axis = torch.arange(3, dtype=torch.float64) * step
    return torch.cartesian_prod(axis, axis, axis)


def test_chamfer_of_equal_clouds_is_zero():
    distance, match = losses.chamfer(cube(), cube())
    assert float(distance) == 0
    assert match.tolist() == list(range(27))


def test_chamfer_of_a_moved_sparse_cloud_is_twice_the_square():
    move = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    distance, _ = losses.chamfer(cube(10.0), cube(10.0) + move)
    assert float(distance) == pytest.approx(2 * float((move**2).sum()))


def test_chamfer_is_mean_of_squares_each_way_and_in_units():
    truth = torch.tensor([[0.0, 0, 0], [4, 0, 0]], dtype=torch.float64)
    made = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    distance, match = losses.chamfer(truth, made)
    assert float(distance) == pytest.approx((1 + 9) / 2 + 1)
    assert match.tolist() == [0]
    scaled, _ = losses.chamfer(truth, made, torch.tensor([1.0, 3.0]), torch.tensor([0.5]))
    assert float(scaled) == pytest.approx((1 + 1) / 2 + 4)


def test_chamfer_has_the_gradient_of_the_nearest():
    truth = torch.zeros(1, 3, dtype=torch.float64)
    made = torch.tensor([[1.0, 2, 0]], dtype=torch.float64, requires_grad=True)
    losses.chamfer(truth, made)[0].backward()
    assert made.grad.tolist() == [[4.0, 8.0, 0.0]]


def test_only_the_last_stage_counts_in_full():
    one, two, three = torch.tensor([1.0, 10.0, 100.0])
    assert float(losses.multi_stage_chamfer([one, two, three], 0.1)) == pytest.approx(0.1 + 1 + 100)
    assert float(losses.multi_stage_chamfer([three], 0.1)) == 100


def family_cloud():
    """Two parents with three and one children."""
    parents = torch.tensor([[0.0, 0, 0], [10, 0, 0]], dtype=torch.float64)
    children = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [10, 0, 4]], dtype=torch.float64)
    return parents, children


def test_mean_distance_is_divided_by_the_predicted_count():
    parents, children = family_cloud()
    counts = torch.tensor([2.0, 1.0], dtype=torch.float64, requires_grad=True)
    found = losses.mean_distance(parents, children, counts, k=3)
    assert found.tolist() == pytest.approx([6 / 2, 4 / 1])
    found.sum().backward()
    assert counts.grad.tolist() == pytest.approx([-6 / 4, -4.0])


def test_mean_distance_looks_at_k_neighbours_only():
    parents, children = family_cloud()
    found = losses.mean_distance(parents, children, torch.tensor([3.0, 1.0], dtype=torch.float64), k=2)
    assert found.tolist() == pytest.approx([(1 + 2) / 3, 4.0])


def test_density_loss_of_right_counts_is_zero():
    parents, children = family_cloud()
    counts = torch.tensor([3.0, 1.0], dtype=torch.float64)
    distances = losses.mean_distance(parents, children, counts)
    loss = losses.density_loss([counts], [counts], [distances], [distances], [torch.arange(4)])
    assert float(loss) == 0


def test_density_loss_matches_stage_i_by_what_stage_i_minus_1_made():
    counts = [torch.tensor([2.0, 3.0]), torch.tensor([1.0, 5.0, 2.0])]
    truth = [torch.tensor([2.0, 1.0]), torch.tensor([4.0, 2.0])]
    zero = [torch.zeros(2), torch.zeros(3)]
    matches = [torch.tensor([1, 0, 0]), torch.tensor([0])]
    loss = losses.density_loss(counts, truth, zero, [torch.zeros(2), torch.zeros(2)], matches)
    # Stage 0 by itself: |3 - 1| / 2.  Stage 1 against truth[1][1, 0, 0] = 2, 4, 4: (1 + 1 + 2) / 3.
    assert float(loss) == pytest.approx(1 + 4 / 3)


def test_density_loss_weighs_distances():
    one = [torch.ones(2)]
    far = [torch.tensor([1.0, 2.0])]
    loss = losses.density_loss(one, one, far, one, [torch.zeros(1)], distance_weight=50.0)
    assert float(loss) == pytest.approx(50 * 0.5)


def test_density_loss_names_a_stage_that_does_not_fit():
    with pytest.raises(ValueError, match="stage 0: 2 counts for 3 matched points"):
        losses.density_loss([torch.ones(2)], [torch.ones(3)], [torch.ones(2)], [torch.ones(3)], [])


def test_point_count_loss_is_linear_in_the_mismatch():
    counts = [torch.tensor([2.0, 3.0]), torch.tensor([1.5, 2.5, 4.0])]
    assert float(losses.point_count_loss(counts, [5, 8])) == 0
    assert float(losses.point_count_loss(counts, [7, 9])) == 3
    assert float(losses.point_count_loss(counts, [9, 10])) == 6


def test_latent_coordinates():
    truth = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    assert float(losses.latent_coordinate_loss(truth, truth + 2)) == 4


def test_the_total_is_the_sum_of_its_parts():
    values = torch.tensor([1.25, 0.5, 0.125, 0.0, 2.0], dtype=torch.float64)
    parts = losses.Parts(*values)
    figures = parts.figures()
    assert figures["loss"] == pytest.approx(float(values.sum()), abs=1e-12)
    assert figures["loss"] == pytest.approx(sum(v for k, v in figures.items() if k != "loss"), abs=1e-12)
    assert float(losses.rate_loss(torch.tensor(30.0), 10)) == 3.0


def test_shares_of_np_and_torch_agree():
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 3)), rng.random((50, 3))
    square = ((a[:, None] - b[None]) ** 2).sum(2)
    distance, match = losses.chamfer(torch.from_numpy(a), torch.from_numpy(b))
    assert float(distance) == pytest.approx(square.min(1).mean() + square.min(0).mean())
    assert match.tolist() == square.argmin(0).tolist()
