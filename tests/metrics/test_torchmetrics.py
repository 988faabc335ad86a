"""The metrics as a torchmetrics.Metric: batches, reset, collections, copies, bad input."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from hardneg.metrics import (
    map_at_k,
    map_at_r,
    ndcg,
    ranks,
    recall_at_k,
    retrieval_metrics,
)

torchmetrics = pytest.importorskip(
    "torchmetrics", reason="the adapter is for those who have torchmetrics: hardneg[torchmetrics]"
)

from hardneg.metrics import torchmetrics as adapter  # noqa: E402
from hardneg.metrics.torchmetrics import EmbeddingMetric  # noqa: E402


def two_sets(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    q, c = (torch.randint(-2, 3, (n, 4), generator=g).to(dtype) for n in (20, 20))
    q_ids, c_ids = (torch.randint(0, 6, (20,), generator=g) for _ in "qc")
    return q, c, q_ids, c_ids


def test_importing_the_metrics_does_not_import_it() -> None:
    code = "import sys, hardneg.metrics; assert not {'torchmetrics', 'lightning_utilities'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_batches_equal_everything_at_once(dtype: torch.dtype) -> None:
    q, c, q_ids, c_ids = two_sets(dtype)
    chosen = partial(ndcg, k=5, similarity="dot")
    metric = EmbeddingMetric(chosen)
    for _ in range(2):
        for rows in torch.arange(20).split(7):
            held = q[rows].requires_grad_()
            metric.update(held, c[rows], q_ids[rows].int(), c_ids[rows])
            with torch.no_grad():  # the caller may use its buffers again
                held.zero_()
        found = metric.compute()
        assert (found.dtype, found.device) == (torch.float32, metric.device)
        assert float(found) == pytest.approx(chosen(q, c, q_ids, c_ids))
        metric.reset()
        with (
            pytest.warns(UserWarning, match="called before"),
            pytest.raises(ValueError, match="no rows were collected"),
        ):
            metric.compute()


def test_results_of_every_kind() -> None:
    q, c, q_ids, _ = two_sets()
    pairs = EmbeddingMetric(ranks, partial(recall_at_k, k=3))
    one_set = EmbeddingMetric(partial(map_at_r, per_query=True))
    report = EmbeddingMetric(retrieval_metrics)
    for rows in torch.arange(20).split(6):
        pairs.update(q[rows], c[rows])
        one_set.update(q[rows], query_ids=q_ids[rows])
        report.update(q[rows], c[rows].repeat_interleave(2, 0))
    assert float(pairs.compute()) == pytest.approx(recall_at_k(ranks(q, c), 3))
    expected = map_at_r(q, q, q_ids, same_set=True, per_query=True)
    torch.testing.assert_close(one_set.compute(), expected, equal_nan=True)
    expected = retrieval_metrics(q, c.repeat_interleave(2, 0)).as_dict()
    assert {k: float(v) for k, v in report.compute().items()} == pytest.approx(expected)


def test_collections_share_the_rows() -> None:
    q, c, q_ids, c_ids = two_sets()
    metrics = torchmetrics.MetricCollection(
        {
            "recall": EmbeddingMetric(ranks, partial(recall_at_k, k=5)),
            "map": EmbeddingMetric(partial(map_at_k, k=5)),
            "ndcg": EmbeddingMetric(ndcg),
        },
        prefix="val_",
    )
    for rows in torch.arange(20).split(6):
        metrics.update(q[rows], c[rows], query_ids=q_ids[rows], candidate_ids=c_ids[rows])
    assert [sorted(group) for group in metrics.compute_groups.values()] == [
        ["map", "ndcg", "recall"]
    ]
    found = {name: float(value) for name, value in metrics.compute().items()}
    expected = {
        "val_recall": recall_at_k(ranks(q, c, q_ids, c_ids), 5),
        "val_map": map_at_k(q, c, q_ids, c_ids, k=5),
        "val_ndcg": ndcg(q, c, q_ids, c_ids),
    }
    assert found == pytest.approx(expected)
    metrics.reset()
    metrics.update(q, c, query_ids=q_ids, candidate_ids=c_ids)
    assert {n: float(v) for n, v in metrics.compute().items()} == pytest.approx(expected)


def test_forward_gives_the_value_of_the_batch() -> None:
    q, c, q_ids, c_ids = two_sets()
    metric = EmbeddingMetric(ndcg)
    for rows in torch.arange(20).split(10):
        value = metric(q[rows], c[rows], q_ids[rows], c_ids[rows])
        assert float(value) == pytest.approx(ndcg(q[rows], c[rows], q_ids[rows], c_ids[rows]))
    assert float(metric.compute()) == pytest.approx(ndcg(q, c, q_ids, c_ids))


def test_values_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    q, c, *_ = two_sets()
    metric = EmbeddingMetric(partial(map_at_k, k=3, per_query=True))
    metric.update(q, c)
    assert metric.compute().dtype == torch.float64
    monkeypatch.setattr(adapter, "has_float64", lambda device: False)
    metric.update(q, c)
    assert metric.compute().dtype == torch.float32


def test_copies_pickles_and_states() -> None:
    q, c, _, _ = two_sets()
    metric = EmbeddingMetric(ranks, partial(recall_at_k, k=3), compute_on_cpu=True)
    metric.persistent(True)
    metric.update(q[:9], c[:9])
    found = [copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), metric.clone()]
    for one in found:
        one.update(q[9:], c[9:])
        assert float(one.compute()) == pytest.approx(recall_at_k(ranks(q, c), 3))
    assert len(metric.queries) == 1


X, IDS = torch.eye(4), torch.arange(4)
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda m: m.update([1.0]), TypeError, "queries is a list"),
    (lambda m: m.update(X, X[:, :2]), ValueError, "project both"),
    (lambda m: m.update(X, X), ValueError, "the same tensor"),
    (lambda m: m.update(X), ValueError, "needs query_ids"),
    (lambda m: m.update(X, X.clone(), IDS), ValueError, "both or neither"),
    (lambda m: m.update(X, X[:3].clone()), ValueError, "4 queries and 3 candidates"),
    (lambda m: m.update(X, X.clone(), IDS[:1], IDS), ValueError, "query_ids has shape"),
    (lambda m: [m.update(X, X.clone()), m.update(X, X.clone(), IDS, IDS)], ValueError, "after"),
    (lambda m: [m.update(X, X.clone()), m.update(X, None, IDS)], ValueError, "without candidates"),
    (
        lambda m: [m.update(X, X.clone()), m.update(X[:, :2], X[:, :2].clone())],
        ValueError,
        "of width 2 after",
    ),
    (lambda m: EmbeddingMetric("ndcg"), TypeError, "metric is 'ndcg'"),
    (lambda m: EmbeddingMetric(ndcg, k=5), ValueError, "k"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(EmbeddingMetric(ndcg))
