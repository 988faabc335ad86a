"""Names that other libraries have, and what to write instead. Imported where a name is not found."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["instead_of"]

PACKAGE = Path(__file__).parent
MODULES = [
    "diagnostics",
    "distributed",
    "encoders",
    "functional",
    "image_text",
    "metrics",
    "mining",
    "training",
]
FACTORS = ["negatives", "penalties", "positives", "similarities", "softmaxes"]
ON_TRIPLES = (
    "of labels write TripletLoss; of rows of anchors, positives and negatives "
    "ContrastiveLoss(directions='queries') with own_negatives"
)
IN_BATCH = "write InfoNCELoss(temperature=0.05, directions='queries')"
CLIP = "write InfoNCELoss(temperature=Learned(0.07))"
OPEN_CLIP = "or, called as open_clip calls it, hardneg.integrations.open_clip."
CHOSEN = "the choice of negatives is an argument of a loss, as in"
MINED = "write hardneg.mining.CorpusMiner for a corpus on disk, mine(queries, corpus, TopK(8)) in memory"
BATCHES = "write hardneg.training.ClassBatches"
INSTEAD = {
    **dict.fromkeys(("TripletMarginLoss", "TripletMarginWithDistanceLoss"), ON_TRIPLES),
    **dict.fromkeys(
        ("BatchAllTripletLoss", "BatchHardTripletLoss", "BatchSemiHardTripletLoss"),
        "write TripletLoss with positives= and negatives= 'all', 'hardest' or 'semihard'",
    ),
    "BatchHardSoftMarginTripletLoss": (
        "write TripletLoss(0.0, 'hardest', 'hardest', 'euclidean', penalty='logistic')"
    ),
    **dict.fromkeys(("InfoNCE", "InfoNceLoss", "MultipleNegativesRankingLoss"), IN_BATCH),
    "MultipleNegativesSymmetricRankingLoss": "write InfoNCELoss(temperature=0.05)",
    "CachedMultipleNegativesRankingLoss": (
        f"{IN_BATCH} and GradCache(encoder, encoder, chunk_size=32) around the encoders"
    ),
    **dict.fromkeys(
        ("GISTEmbedLoss", "CachedGISTEmbedLoss"),
        "write InfoNCELoss(0.01, directions='joint') with guide= of its call",
    ),
    **dict.fromkeys(("ClipLoss", "CLIPLoss"), f"{CLIP}, {OPEN_CLIP}ClipLoss"),
    **dict.fromkeys(
        ("SigLipLoss", "SigLIPLoss"),
        f"write SigmoidLoss(Learned(0.1), Learned(-10.0)), {OPEN_CLIP}SigLipLoss",
    ),
    **dict.fromkeys(("NTXent", "NT_Xent", "SimCLRLoss"), "write NTXentLoss"),
    "SupervisedContrastiveLoss": "write SupConLoss",
    "MatryoshkaLoss": "write Matryoshka(loss, dims)",
    "MarginMSELoss": "write MarginMSE",
    "DistillKLDivLoss": "write KLDistillation",
    "KoLeoLoss": "write KoLeo",
    **dict.fromkeys(
        ("CrossBatchMemory", "MemoryBank", "MemoryBankModule"),
        "write MemoryQueue(size, width), which stands beside the loss",
    ),
    **dict.fromkeys(
        ("BatchHardMiner", "BatchEasyHardMiner"),
        f"{CHOSEN} TripletLoss(positives='hardest', negatives='hardest')",
    ),
    "TripletMarginMiner": f"{CHOSEN} TripletLoss(negatives=All(Ceiling())) for its semi-hard ones",
    "MultiSimilarityMiner": "write MultiSimilarityLoss(epsilon=0.1), which mines by itself",
    "DistanceWeightedMiner": f"{CHOSEN} TripletLoss(negatives=DistanceWeighted())",
    **dict.fromkeys(("HardNegativeMiner", "mine_hard_negatives"), MINED),
    **dict.fromkeys(
        ("MPerClassSampler", "BalancedBatchSampler", "GroupByLabelBatchSampler"), BATCHES
    ),
    "NoDuplicatesBatchSampler": "write hardneg.training.UniqueIdBatches",
    "HardNegLoss": (
        "write hardneg.integrations.sentence_transformers.HardNegLoss, or that of integrations.pytorch_metric_learning"
    ),
    "HardNegMiner": "write hardneg.integrations.pytorch_metric_learning.HardNegMiner",
    "ContrastiveTrainer": "write hardneg.integrations.transformers.ContrastiveTrainer",
    "ContrastiveModule": "write hardneg.integrations.lightning.ContrastiveModule",
    "AccuracyCalculator": "write the functions of hardneg.metrics",
}
"""Names of other libraries that have a twin here, and names of the integrations."""


def instead_of(name: str) -> str:
    """What to write for a name that the package does not have; nothing where that is not known.

    The names of modules are read from their ``__all__`` as text, so that none of them is imported.
    """
    if name in INSTEAD:
        return INSTEAD[name]
    for module in (*MODULES, *FACTORS):
        path = PACKAGE / module / "__init__.py"
        text = (path if path.exists() else path.parent.with_suffix(".py")).read_text()
        listed = re.search(r"^__all__ = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
        if listed is not None and f'"{name}"' in listed[1]:
            return f"write hardneg.{module}.{name}"
    return ""
