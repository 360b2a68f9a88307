import warnings

import pytest
import torch

from fastrl.errors import SettingError
from fastrl.nn.encoders import (
    GridEncoder,
    ImageEncoder,
    VectorEncoder,
    in_unit_range,
    observation_decoder,
    observation_encoder,
    reconstruction_loss,
    require_symbols,
)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((3,), torch.float32, VectorEncoder),
        ((84, 84, 3), torch.uint8, ImageEncoder),
        ((4, 84, 84), torch.uint8, ImageEncoder),
        ((64, 48, 1), torch.uint8, ImageEncoder),
        ((7, 7, 3), torch.uint8, GridEncoder),
        ((3, 3, 3), torch.uint8, GridEncoder),
        ((128,), torch.uint8, VectorEncoder),
        ((2, 5), torch.float32, VectorEncoder),
    ],
)
def test_encoder_and_decoder_by_shape(shape, dtype, kind):
    encoder, decoder = observation_encoder(shape, dtype, 16), observation_decoder(shape, dtype, 16)
    assert isinstance(encoder, kind)
    obs = (
        torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
        if dtype == torch.uint8
        else torch.randn(5, *shape)
    )
    features = encoder(obs)
    assert features.shape == (5, 16)
    decoded = decoder(features)
    assert decoded.shape == obs.shape
    reconstruction_loss(decoded, obs).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in [*encoder.parameters(), *decoder.parameters()]
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        (
            (20, 20, 3),
            torch.uint8,
            r"observations, bytes \[20, 20, 3\], go into a linear layer as a vector of 1,200 numbers over "
            r"255",
        ),
        ((84, 84), torch.uint8, r"bytes \[84, 84\], go into a linear layer"),
        (
            (84, 84, 3),
            torch.float32,
            r"float32 \[84, 84, 3\], go into a linear layer as a vector of 21,168 numbers: an image is bytes",
        ),
    ],
)
def test_what_looks_like_a_picture_and_becomes_a_vector_is_said(shape, dtype, said):
    with pytest.warns(UserWarning, match=said):
        assert isinstance(observation_encoder(shape, dtype, 4), VectorEncoder)


def test_vectors_grids_and_images_become_what_they_are_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape, dtype in (
            ((128,), torch.uint8),
            ((15, 15, 3), torch.uint8),
            ((36, 36, 1), torch.uint8),
            ((10, 10, 4), torch.float32),
        ):
            observation_encoder(shape, dtype, 4)


def test_a_grid_encoder_is_a_linear_layer_over_one_hot_symbols():
    torch.manual_seed(0)
    encoder = GridEncoder((2, 2, 3), 5)
    obs = torch.randint(0, 16, (7, 2, 2, 3), dtype=torch.uint8)
    one_hot = torch.nn.functional.one_hot(obs.long(), 16).float().flatten(1)
    torch.testing.assert_close(encoder(obs), torch.relu(one_hot @ encoder.table.weight + encoder.bias))
    torch.testing.assert_close(encoder(torch.full_like(obs, 15)), encoder(torch.full_like(obs, 200)))


def test_small_pictures_are_not_taken_for_symbols_in_silence():
    symbols = torch.full((5, 2, 7, 7, 3), 15, dtype=torch.uint8)
    require_symbols(symbols, (7, 7, 3), "Maze-v0")
    require_symbols(torch.full((5, 2, 84, 84, 3), 255, dtype=torch.uint8), (84, 84, 3), "Maze-v0")
    symbols[3, 1, 2, 2, 0] = 16
    with pytest.raises(SettingError, match=r"observations of Maze-v0, bytes \[7, 7, 3\], .* but one is 16"):
        require_symbols(symbols, (7, 7, 3), "Maze-v0")


def test_images_may_have_their_channels_first_or_last():
    torch.manual_seed(0)
    last, first = ImageEncoder((84, 84, 4), 8), ImageEncoder((4, 84, 84), 8)
    first.load_state_dict(last.state_dict())
    obs = torch.randint(0, 256, (2, 84, 84, 4), dtype=torch.uint8)
    torch.testing.assert_close(last(obs), first(obs.permute(0, 3, 1, 2)))


def test_reconstruction_of_bytes_is_cross_entropy_and_of_numbers_squared_error():
    obs = torch.tensor([[[[0]], [[15]]]], dtype=torch.uint8)  # a grid: 15 is the largest symbol
    assert in_unit_range(obs).flatten().tolist() == [0.0, 1.0]
    assert in_unit_range(
        torch.full((1, 84, 84, 3), 51, dtype=torch.uint8)
    ).unique().tolist() == pytest.approx([0.2])
    logits = torch.tensor([[[[-2.0]], [[3.0]]]])
    expected = (torch.log1p(torch.exp(torch.tensor(-2.0))) + torch.log1p(torch.exp(torch.tensor(-3.0)))) / 2
    torch.testing.assert_close(reconstruction_loss(logits, obs), expected)
    assert reconstruction_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 5.0]])).item() == 2.5
