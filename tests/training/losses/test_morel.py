"""MOREL: its losses by hand, its head, and that it costs the network nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from parapet.errors import InputError
from parapet.training.losses import trades
from parapet.training.losses.morel import cosine_loss, multi_positive_contrastive
from parapet.training.morel import MorelHead, classifier_layer, features_of
from parapet.training.training_loss import TrainingLoss
from tests.training.losses.two_pixels import Pixels, small_network


def _batch(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 4, 4, generator=generator)
    labels = torch.randint(3, (count,), generator=generator)
    return images, labels, (images + 0.1 * torch.rand(images.shape, generator=generator)).clamp(max=1)


def test_the_cosine_loss_by_hand() -> None:
    # Cosines 1, 0 and -1: 1 less their mean 0.
    clean = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    other = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    assert float(cosine_loss(clean, other)) == pytest.approx(1.0)
    assert float(cosine_loss(clean[2:], other[2:])) == pytest.approx(2.0)
    assert float(cosine_loss(clean, clean)) == 0.0


def test_the_contrastive_loss_by_hand() -> None:
    # Unit embeddings a = b = (1, 0) of class 0 and c = (0, 1) of class 1, temperature 1. For a the others are b with
    # cosine 1 and c with 0: -log(e / (e + 1)); the same for b; c has no partner and counts 0.
    embeddings, labels = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    expected = 2 * math.log(1 + math.exp(-1)) / 3
    assert float(multi_positive_contrastive(embeddings, labels, 1.0)) == pytest.approx(expected, rel=1e-6)
    # Two partners share the target: for each of three equal ones -log(1/2).
    assert float(multi_positive_contrastive(torch.ones(3, 2), torch.zeros(3))) == pytest.approx(math.log(2), rel=1e-6)


def test_the_contrastive_loss_is_never_negative_and_does_not_see_the_order() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 7, 40):
        embeddings = torch.randn(count, 5, generator=generator)
        labels = torch.randint(4, (count,), generator=generator)
        value = float(multi_positive_contrastive(embeddings, labels))
        order = torch.randperm(count, generator=generator)
        assert value >= 0
        assert float(multi_positive_contrastive(embeddings[order], labels[order])) == pytest.approx(value, rel=1e-5)


def test_the_cosine_loss_lies_in_zero_to_two() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-20, 1.0, 1e10):
        first, second = torch.randn(2, 50, 8, generator=generator) * scale
        for pair in ((first, second), (first, first), (first, -first)):
            assert 0 <= float(cosine_loss(*pair)) <= 2


def test_attention_stays_within_the_class_and_the_version() -> None:
    head = MorelHead(6, torch.Generator().manual_seed(0))
    features = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    embedded, attended = head(features, torch.tensor([0, 1, 0, 2, 1]))
    assert embedded.shape == attended.shape == (2, 5, 128)
    gradient = torch.autograd.grad(attended[0, 0].sum(), features)[0].abs().sum(2)
    assert (gradient[0, [0, 2]] > 0).all() and (gradient[0, [1, 3, 4]] == 0).all() and (gradient[1] == 0).all()


def test_attention_by_hand() -> None:
    # Alone in its class an image attends to itself: its embedding and the projected values of its own norm.
    head = MorelHead(6, torch.Generator().manual_seed(0))
    features = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    embedded, attended = head(features, torch.tensor([4]))
    values = head.attend(head.norm(embedded)).chunk(3, dim=1)[2]
    assert torch.allclose(attended, embedded + head.join(values), atol=1e-6)
    # It is torch's own layer on the images of one class.
    peer = nn.MultiheadAttention(128, 2, batch_first=True)
    with torch.no_grad():
        for theirs, ours in ((peer.in_proj_weight, head.attend.weight), (peer.in_proj_bias, head.attend.bias),
                             (peer.out_proj.weight, head.join.weight), (peer.out_proj.bias, head.join.bias)):
            theirs.copy_(ours)
    features, labels = torch.randn(7, 6, generator=torch.Generator().manual_seed(2)), torch.arange(7) % 2
    embedded, attended = head(features, labels)
    for label in (0, 1):
        mine = embedded[labels == label]
        normed = head.norm(mine)[None]
        assert torch.allclose(attended[labels == label], mine + peer(normed, normed, normed)[0][0], atol=1e-5)


def test_the_whole_loss_is_the_weighted_sum_of_its_parts() -> None:
    network, head = small_network(torch.Generator().manual_seed(0)), MorelHead(8, torch.Generator().manual_seed(0))
    images, labels, adversarial = _batch()
    loss, pieces = TrainingLoss("trades", {"beta": 2.0, "morel": 0.3, "morel_alpha": 0.5})(
        network, images, labels, adversarial, morel_head=head)
    accuracy, _ = trades(network, images, labels, adversarial, beta=2.0)
    features = network[:6](torch.cat([images, adversarial])).chunk(2)
    embedded, attended = zip(*(head(part, labels) for part in features))
    cosine = cosine_loss(*embedded)
    contrastive = multi_positive_contrastive(torch.cat(attended), torch.cat([labels, labels]))
    assert loss.item() == pytest.approx((0.7 * accuracy + 0.3 * (cosine + 0.5 * contrastive)).item(), rel=1e-5)
    assert pieces["cosine_loss"].item() == pytest.approx(cosine.item(), rel=1e-5)
    assert {"clean_loss", "divergence", "contrastive_loss"} <= set(pieces)


@pytest.mark.parametrize("loss", ["trades", "mart"])
def test_it_reaches_the_network_and_the_head_and_adds_nothing_to_what_is_saved(loss: str) -> None:
    network, head = small_network(torch.Generator().manual_seed(0)), MorelHead(8, torch.Generator().manual_seed(0))
    names = set(network.state_dict())
    value, _ = TrainingLoss(loss, {"morel": 0.1})(network, *_batch(), morel_head=head)
    value.backward()
    assert all(parameter.grad is not None for parameter in (*network.parameters(), *head.parameters()))
    assert set(network.state_dict()) == names and not network[6]._forward_pre_hooks


def test_the_order_of_the_batch_does_not_matter() -> None:
    network, head = small_network(torch.Generator().manual_seed(0)), MorelHead(8, torch.Generator().manual_seed(0))
    images, labels, adversarial = _batch()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    loss = TrainingLoss("trades", {"morel": 0.1, "morel_alpha": 1.0})
    first, _ = loss(network, images, labels, adversarial, morel_head=head)
    second, _ = loss(network, images[order], labels[order], adversarial[order], morel_head=head)
    assert first.item() == pytest.approx(second.item(), rel=1e-4)


def test_the_head_comes_from_its_generator_alone() -> None:
    state = torch.random.get_rng_state()
    heads = [MorelHead(8, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(heads[0].attend.weight, heads[1].attend.weight)
    assert not torch.equal(heads[0].attend.weight, heads[2].attend.weight)


def test_the_features_are_what_goes_into_the_last_linear_layer() -> None:
    network = small_network(torch.Generator().manual_seed(0)).eval()
    assert classifier_layer(network) is network[6]
    images = _batch()[0]
    with features_of(network[6]) as seen:
        network(images)
    assert len(seen) == 1 and torch.equal(seen[0], network[:6](images))


def test_wrong_input_is_answered_in_a_sentence() -> None:
    with pytest.raises(InputError) as caught:
        classifier_layer(Pixels())
    assert str(caught.value) == ("Pixels has no linear layer; MOREL takes the input of the last one for its features.")
