"""Both towers as programs of ``torch.export``, for batches of any size."""

import io
from itertools import product

import pytest
import torch
from tiny_models import features, tiny
from torch import nn

from hardneg.encoders import TextEncoder
from hardneg.encoders.padded_gru import gru_over_padded
from hardneg.image_text import PictureView

STEPS = 9
LENGTHS = torch.tensor([STEPS, 1, 3, 5, 2])


def captions() -> torch.Tensor:
    ids = torch.randint(1, 12, (len(LENGTHS), STEPS), generator=torch.Generator().manual_seed(2))
    return ids * (torch.arange(STEPS) < LENGTHS.unsqueeze(1))


@pytest.mark.parametrize(
    ("layers", "both", "bias"), [*product((1, 2), (False, True), (True, False))]
)
def test_a_gru_over_padded_rows_is_that_over_packed_ones(layers, both, bias) -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(4, 5, layers, bias=bias, batch_first=True, bidirectional=both).double()
    rows = torch.randn(len(LENGTHS), STEPS, 4, dtype=torch.float64, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(
        rows, LENGTHS, batch_first=True, enforce_sorted=False
    )
    states, final = rnn(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    found, ends = gru_over_padded(rnn, rows, LENGTHS)
    valid = (torch.arange(STEPS) < LENGTHS.unsqueeze(1)).unsqueeze(2)
    torch.testing.assert_close(found * valid, states, rtol=0, atol=1e-13)
    torch.testing.assert_close(ends, final[-len(ends) :], rtol=0, atol=1e-13)
    (expected,) = torch.autograd.grad(states.square().sum(), rows)
    (gradient,) = torch.autograd.grad((found * valid).square().sum(), rows)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


TOWERS = [("gru", "last", 1), ("gru", "gpo", 2), ("bigru", "last", 2), ("bigru", "max", 1),
          ("bigru", "gpo", 1), ("bow", "last", 1), ("bow+bigru", "gpo", 1)]  # fmt: skip


@pytest.mark.parametrize(("text", "pooling", "layers"), TOWERS)
def test_the_text_tower(text: str, pooling: str, layers: int) -> None:
    model = tiny(text=text, pooling=pooling, text_layers=layers, blocks=1).double()
    program = model.export_text(STEPS).module()
    ids = captions()
    expected = model.text(ids, LENGTHS)
    torch.testing.assert_close(program(ids, LENGTHS), expected, rtol=0, atol=1e-13)
    for rows in ([1], [4, 0], list(range(5)) * 40):
        torch.testing.assert_close(
            program(ids[rows], LENGTHS[rows]), expected[rows], rtol=0, atol=1e-13
        )


@pytest.mark.filterwarnings(
    "ignore:The given buffer is not writable:UserWarning"
)  # torch 2.11's own loading
def test_a_saved_program_runs_without_the_model() -> None:
    model = tiny(text="bigru", pooling="gpo").double().train()
    stream = io.BytesIO()
    torch.export.save(model.export_text(STEPS), stream)
    assert model.training
    stream.seek(0)
    program = torch.export.load(stream).module()
    expected = model.eval().text(captions(), LENGTHS)
    torch.testing.assert_close(program(captions(), LENGTHS), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [{"scale_features": "sqrt", "blocks": 1}, {"absolute": True}])
def test_the_tower_of_features(kind: dict) -> None:
    model = tiny(**kind).double()
    program = model.export_images().module()
    for count in (1, 2, 64):
        images = features(count, torch.float64)
        assert torch.equal(program(images), model.embed_images(images))


@pytest.mark.parametrize("crop", ["centre", "ten"])
def test_the_tower_of_pictures(crop: str) -> None:
    model = tiny(PictureView(16, crop)).double()
    program = model.export_images().module()
    crops = (10,) if crop == "ten" else ()
    for count in (1, 4):
        images = torch.rand(count, *crops, 3, 16, 16, dtype=torch.float64)
        torch.testing.assert_close(program(images), model.embed_images(images), rtol=0, atol=1e-13)


def test_too_few_words() -> None:
    with pytest.raises(ValueError, match="words is 1: expected at least 2"):
        tiny().export_text(1)


def test_training_reads_packed_rows() -> None:
    """Outside of an export nothing changes: rows are packed, with torch's own GRU where nothing is trained."""
    torch.manual_seed(0)
    encoder = TextEncoder(12, 8, 6)
    ids = captions()
    packed = nn.utils.rnn.pack_padded_sequence(
        encoder.embed(ids), LENGTHS, batch_first=True, enforce_sorted=False
    )
    expected = nn.functional.normalize(encoder.rnn(packed)[1][-1], dim=-1)
    torch.testing.assert_close(encoder(ids, LENGTHS), expected)
    with torch.no_grad():
        assert torch.equal(encoder(ids, LENGTHS), expected)
