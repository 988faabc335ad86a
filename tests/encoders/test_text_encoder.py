"""The caption tower: against one caption at a time, and its options."""

import pytest
import torch
import torch.nn.functional as F

from hardneg.encoders import TextEncoder, TransformerTextEncoder


def captions() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 7, 1, 7, 5])
    words = torch.randint(1, 50, (5, 7), generator=generator)
    return words.masked_fill(torch.arange(7) >= lengths.unsqueeze(1), 0), lengths


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "gpo"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_batch_is_its_captions_one_by_one(bidirectional: bool, pooling: str, layers: int) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(
        50, 12, 6, bidirectional=bidirectional, pooling=pooling, layers=layers
    ).double()
    words, lengths = captions()
    alone = [encoder(words[i : i + 1, : lengths[i]], lengths[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(encoder(words, lengths), torch.cat(alone))


@pytest.mark.parametrize("layers", [1, 2])
def test_last_is_the_state_at_the_last_valid_step_normalised(layers: int) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(50, 12, 6, layers=layers)
    words, lengths = captions()
    for i, length in enumerate(lengths):
        states, _ = encoder.rnn(encoder.embed(words[i, :length]).unsqueeze(0))
        expected = F.normalize(states[:, -1], dim=1)
        torch.testing.assert_close(encoder(words[i : i + 1], lengths[i : i + 1]), expected)


@pytest.mark.parametrize(("pooling", "pick"), [("last", None), ("mean", "mean"), ("max", "amax")])
def test_a_bigru_averages_its_directions(pooling: str, pick: str | None) -> None:
    """Last means: the forward state after the last word, the backward state after the first."""
    torch.manual_seed(0)
    encoder = TextEncoder(50, 12, 6, layers=2, bidirectional=True, pooling=pooling)
    words, lengths = captions()
    for i, length in enumerate(lengths):
        states, _ = encoder.rnn(encoder.embed(words[i : i + 1, :length]))
        forwards, backwards = states[0].chunk(2, dim=1)
        if pick is None:
            pooled = (forwards[-1] + backwards[0]) / 2
        else:
            pooled = getattr((forwards + backwards) / 2, pick)(0)
        expected = F.normalize(pooled, dim=0)
        torch.testing.assert_close(encoder(words[i : i + 1], lengths[i : i + 1])[0], expected)


def test_absolute_values_for_order_embeddings() -> None:
    torch.manual_seed(0)
    plain = TextEncoder(50, 12, 6)
    order = TextEncoder(50, 12, 6, absolute=True)
    order.load_state_dict(plain.state_dict())
    words, lengths = captions()
    assert (plain(words, lengths) < 0).any()
    torch.testing.assert_close(order(words, lengths), plain(words, lengths).abs())


def test_words_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    weight = TextEncoder(2_000, 16, 30).embed.weight
    assert weight.abs().max() <= 0.1
    assert weight.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.02)


def test_word_drop_hides_words_in_training_only() -> None:
    encoder = TextEncoder(50, 12, 6, word_drop=0.5)
    words = torch.full((200, 20), 7)
    hidden = encoder.drop_words(words)
    assert (hidden == encoder.unknown_id).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(encoder.eval().drop_words(words), words)
    assert (words == 7).all()


@pytest.mark.parametrize(
    ("words", "lengths", "error", "message"),
    [
        (torch.ones(3, dtype=torch.int64), torch.ones(3), ValueError, r"words are \(3,\)"),
        (torch.ones(3, 2, dtype=torch.int64), torch.ones(2), ValueError, r"lengths \(2,\)"),
        (torch.ones(3, 2), torch.ones(3), TypeError, "float32: expected int64 ids below 50"),
    ],
)
def test_bad_captions_are_refused(words, lengths, error, message) -> None:
    with pytest.raises(error, match=message):
        TextEncoder(50, 12, 6)(words, lengths)


def test_transformer_text_encoder_ignores_padding() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    encoder = TransformerTextEncoder(transformers.BertModel(config), embed_dim=12).eval()
    words, lengths = captions()
    spoiled = torch.where(torch.arange(7) >= lengths.unsqueeze(1), 9, words)
    embedded = encoder(words, lengths)
    assert embedded.shape == (5, 12)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(encoder(spoiled, lengths), embedded)
