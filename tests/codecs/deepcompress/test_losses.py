"""The voxel loss against its formula."""

import pytest
import torch

from pccbench.codecs.deepcompress.losses import focal_loss, voxel_loss


def reference(logits, occupied, share, alpha, gamma, scale):
    probability = torch.sigmoid(logits.double())
    right = torch.where(occupied > 0, probability, 1 - probability)
    weight = torch.where(occupied > 0, alpha, 1 - alpha)
    focal = -weight * (1 - right) ** gamma * torch.log(right)
    return ((1 - share[:, None]) * -torch.log(right) + share[:, None] * scale * focal).sum(1)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_loss_and_gradient_are_those_of_the_formula(gamma):
    torch.manual_seed(0)
    logits = (2 * torch.randn(6, 512)).requires_grad_()
    occupied = (torch.rand(6, 512) < 0.1).float()
    share = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    found = voxel_loss(logits, occupied, share, alpha=0.7, gamma=gamma, focal_scale=3.0)
    weights = torch.arange(1.0, 7.0)
    (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
    twin = logits.detach().double().requires_grad_()
    expected = reference(twin, occupied, share.double(), 0.7, gamma, 3.0)
    (slope,) = torch.autograd.grad((expected * weights).sum(), twin)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-4)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[-200.0, 200.0] * 256], requires_grad=True)
    loss = voxel_loss(logits, torch.ones(1, 512), torch.tensor([0.5]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_focal_loss_without_focus_is_half_of_the_cross_entropy():
    logits, occupied = torch.randn(100), (torch.rand(100) < 0.5).float()
    found = focal_loss(logits, occupied, alpha=0.5, gamma=0.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, occupied, reduction="none") / 2
    torch.testing.assert_close(found, expected)
