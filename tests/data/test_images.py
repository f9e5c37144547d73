import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.data import Images


def images_of(count, levels=255):
    pixels = torch.arange(count * 4).remainder(levels + 1).to(torch.uint8).reshape(count, 1, 2, 2)
    return Images(pixels, torch.arange(count) % 3, torch.arange(count), levels)


@pytest.mark.parametrize("levels", [16, 255])
def test_floats_are_exactly_pixel_over_levels(levels):
    images = images_of(64, levels)
    floats, labels = images.all()
    expected = images.images.numpy().astype(np.float32) / np.float32(levels)
    np.testing.assert_array_equal(floats.numpy(), expected)
    assert (floats.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert (floats.min(), floats.max()) == (0, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("levels", [16, 255])
def test_cuda_gives_the_same_floats(levels):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    host = images_of(64, levels)
    device = Images(host.images.cuda(), host.labels.cuda(), host.index.cuda(), levels)
    assert torch.equal(device.all()[0].cpu(), host.all()[0])
    orders = [[labels.tolist() for _, labels in images.shuffled(10, torch.Generator().manual_seed(0))]
              for images in (host, device)]
    assert orders[0] == orders[1]


def test_batch_takes_the_images_asked_for():
    images = images_of(10)
    floats, labels = images.batch(torch.tensor([7, 2]))
    assert labels.tolist() == [1, 2]
    assert torch.equal(floats, images.all()[0][[7, 2]])


def test_batches_go_in_order_and_keep_the_rest():
    images = images_of(10)
    sizes = [len(labels) for _, labels in images.batches(4)]
    assert sizes == [4, 4, 2]
    assert torch.equal(torch.cat([floats for floats, _ in images.batches(4)]), images.all()[0])


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 1000))
def test_an_epoch_is_full_batches_without_repetition(count, batch_size, seed):
    images = Images(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), torch.arange(count), torch.arange(count), 255)
    batches = [labels.tolist() for _, labels in images.shuffled(batch_size, torch.Generator().manual_seed(seed))]
    seen = sum(batches, [])
    assert len(set(seen)) == len(seen)
    if count < batch_size:
        assert [len(batch) for batch in batches] == [count]
    else:
        assert [len(batch) for batch in batches] == [batch_size] * (count // batch_size)


def test_epochs_follow_the_generator():
    images = Images(torch.zeros(50, 1, 1, 1, dtype=torch.uint8), torch.arange(50), torch.arange(50), 255)
    generator = torch.Generator().manual_seed(3)
    first, second = ([labels.tolist() for _, labels in images.shuffled(10, generator)] for _ in range(2))
    again = [labels.tolist() for _, labels in images.shuffled(10, torch.Generator().manual_seed(3))]
    assert first == again
    assert first != second
    assert sorted(sum(first, [])) == list(range(50))
