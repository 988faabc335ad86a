"""Evaluation with a query bank, apart from the ordinary one."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

import vsepp.retrieval
from test_vsepp_retrieval import embedded_coco
from vsepp.commands import main
from vsepp.errors import InputError
from vsepp.evaluate import protocols_with
from vsepp.retrieval import QueryBank, check_bank, retrieve, without_hubs

QUICK = ["--epochs", "1", "--embed-dim", "16", "--word-dim", "8", "--threshold", "1"]
QUICK += ["--batch-size", "16", "--cpu", "--no-tensorboard", "--quiet"]


def dynamic_inverted_softmax(queries, candidates, bank, temperature) -> torch.Tensor:
    """As published, with its exponentials; every row is either all corrected or not at all."""
    scores, of_bank = queries @ candidates.T, bank @ candidates.T
    activated = set(of_bank.argmax(1).tolist())
    inverted = (scores / temperature).exp() / (of_bank / temperature).exp().sum(0)
    return torch.stack(
        [
            inverted[i] if int(scores[i].argmax()) in activated else scores[i]
            for i in range(len(queries))
        ]
    )


@pytest.mark.parametrize("block", [2**24, 40])
def test_it_ranks_as_the_published_softmax_does(monkeypatch, block: int) -> None:
    monkeypatch.setattr(vsepp.retrieval, "BLOCK", block)
    torch.manual_seed(0)
    x, y, bank = (normalize(torch.randn(n, 5).double()) for n in (20, 13, 6))
    q, c = without_hubs(x, y, bank, 0.1)
    expected = dynamic_inverted_softmax(x, y, bank, 0.1)
    near = (bank @ y.T).argmax(1).unique()
    corrected = torch.isin((x @ y.T).argmax(1), near)
    assert 0 < corrected.sum() < 20
    assert torch.equal((q @ c.T).argsort(1), expected.argsort(1))
    torch.testing.assert_close((q @ c.T)[~corrected], (x @ y.T)[~corrected])


def test_a_hub_loses_its_advantage() -> None:
    """One caption is near to every image; the bank knows it."""
    torch.manual_seed(0)
    common = normalize(torch.randn(1, 16), dim=1)
    own, other = torch.randn(12, 16), torch.randn(40, 16)
    images, captions = normalize(own + 3 * common), normalize(own)
    captions[0] = common[0]
    image_of = torch.arange(12)
    plain = retrieve(images, captions, image_of, "cosine")
    bank = QueryBank(normalize(other + 3 * common), normalize(other), 0.05)
    found = bank.retrieve(images, captions, image_of)
    assert found.image_to_text.recall_at_1 > plain.image_to_text.recall_at_1 + 10


def test_folds_know_their_own_candidates() -> None:
    embedded = embedded_coco()
    bank = QueryBank(embedded.images[:50], embedded.captions[:50], 0.05)
    found = protocols_with(bank, embedded, "coco", "test")
    assert [*found] == ["1k, query bank", "5k, query bank"]
    first = bank.retrieve(
        embedded.images[:1000], embedded.captions[:5000], embedded.image_of[:5000]
    )
    others = found["1k, query bank"].text_to_image.mean_rank
    assert others == pytest.approx(first.text_to_image.mean_rank, rel=0.2)
    assert found["5k, query bank"].text_to_image.mean_rank > 2 * others


def test_results_of_their_own(precomp_root: Path, tmp_path: Path, capsys) -> None:
    given = ["--data", str(precomp_root), "--out", str(tmp_path)]
    main("flickr8k", [*given, "--recipe", "flickr8k-256-vse++", *QUICK])
    run = str(tmp_path / "flickr8k-256-vse++-seed0")
    ask = ["evaluate", run, "--data", str(precomp_root), "--cpu", "--json", str(tmp_path / "a")]
    main("flickr8k", [*ask, "--query-bank"])
    found = json.loads((tmp_path / "a").read_text())
    stored = json.loads((Path(run) / "result.json").read_text())["results"]
    assert [*found] == ["test", "test, query bank"]
    assert found["test"] == stored["test"]
    assert found["test, query bank"] != found["test"]
    assert [*stored] == ["test"]
    with pytest.raises(SystemExit):
        main("flickr8k", [*ask, "--query-bank", "--bank-temperature", "0"])
    assert "--bank-temperature is 0.0: expected more than 0" in capsys.readouterr().err
    with pytest.raises(InputError, match="--query-bank is for cosine"):
        check_bank(0.05, "order")
