# %% [markdown]
# # Digits with unseen classes: collapse and its cures
#
# A network learns an embedding from some classes, and is judged by classes that it has never seen: does a digit find
# the other digits of its class? We train with triplets, see the hardest negatives collapse everything to a point, and
# cure it.
#
# The data are scikit-learn's 1,797 digits, so that nothing is downloaded: `pip install -e '.[tutorials]'`.

# %%
import os

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from hardneg import All, Hardest, SupConLoss, TopK, TripletLoss, Warmup
from hardneg.diagnostics import Diagnostics
from hardneg.metrics import map_at_r, ranks, recall_at_k

SEEDS = int(os.environ.get("SEEDS", "1"))
STEPS = 300
SIDE = 12

# %% [markdown]
# ## Data: classes to learn from, classes to be judged by
#
# Five digits train, the other five are the test. Each picture lies at a random place of a larger one, so that equal
# pixels no longer mean an equal digit. Five classes are few; a training digit turned by a quarter, a half and three
# quarters counts as three further classes.


# %%
def placed(images):
    """8 x 8 pictures at random places of 12 x 12 ones."""
    canvas = torch.zeros(len(images), SIDE, SIDE)
    top, left = torch.randint(0, SIDE - 7, (2, len(images), 1, 1))
    rows = torch.arange(len(images))[:, None, None]
    canvas[rows, top + torch.arange(8)[:, None], left + torch.arange(8)] = images
    return canvas


torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
known = torch.isin(labels, torch.tensor([2, 3, 4, 5, 7]))
turned = [images[known].rot90(turns, (1, 2)) for turns in range(4)]
train_images = torch.cat(turned)
train_labels = torch.cat([4 * labels[known] + turns for turns in range(4)])
test_images, test_labels = placed(images[~known]), labels[~known]
rows_of_class = [(train_labels == c).nonzero().flatten() for c in train_labels.unique()]
print(f"{len(train_images)} pictures of {len(rows_of_class)} classes to learn from")
print(f"{len(test_images)} pictures of 5 classes to be judged by")

# %% [markdown]
# ## Model, metrics, training
#
# mAP@R asks for the whole class: among the R nearest other pictures, R being how many of the class there are, how
# many are of the class, and do they come first? Recall@1 asks for the nearest one alone, which is easy here: a
# picture of the same digit at the same place will do.


# %%
def network(seed):
    """Pictures to embeddings of 16 numbers."""
    torch.manual_seed(seed)
    layers = [nn.Unflatten(1, (1, SIDE)), nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU()]
    layers += [nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64 * 9, 128), nn.ReLU(), nn.Linear(128, 16))


@torch.no_grad()
def judged(model):
    """mAP@R and recall@1 of the unseen classes, in percent."""
    x = model(test_images)
    first = ranks(x, x, test_labels, test_labels, same_set=True)
    mean = map_at_r(x, x, test_labels, test_labels, same_set=True)
    return 100 * mean, 100 * recall_at_k(first, 1)


def batch():
    """16 classes, 8 pictures each, at new places."""
    classes = torch.randperm(len(rows_of_class))[:16].tolist()
    of_class = [rows_of_class[c] for c in classes]
    rows = torch.cat([rows[torch.randint(len(rows), (8,))] for rows in of_class])
    return placed(train_images[rows]), train_labels[rows]


def train(loss, seed=0, schedule=None):
    """Adam on STEPS batches; a schedule says which negatives the step takes. Returns the losses too."""
    model, losses = network(seed), []
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(STEPS):
        pictures, classes = batch()
        chosen = {} if schedule is None else {"negatives": schedule(step)}
        value = loss(model(pictures), classes, **chosen)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return model, losses


# %% [markdown]
# ## Collapse
#
# The hardest negative of each anchor looks like the best teacher. `Diagnostics` watches the training and says in
# words what is wrong.

# %%
MARGIN = 0.2
hardest = TripletLoss(MARGIN, negatives="hardest")
diagnostics = Diagnostics(every=50)
handle = diagnostics.attach(hardest)
collapsed, hardest_losses = train(hardest)
handle.remove()
for look in diagnostics.history:
    print(f"step {look.step:3}: loss {look.loss:.3f}, mean cosine {look.queries.mean_cosine:.3f}")
print(*diagnostics.findings, sep="\n")

# %% [markdown]
# The loss stays at the margin: all pictures have nearly the same embedding, so positives score as negatives do, and
# `margin - positive + negative` is the margin. At the first step the loss is above it: the hardest negatives score
# higher than positives do. Drawing everything together lowers the loss to the margin, and there it stays.
#
# Semi-hard negatives are the hardest among those that score below the positive. With them the same network, batches
# and learning rate learn.

# %%
semihard, semihard_losses = train(TripletLoss(MARGIN, negatives="semihard"))
figure, (left, *maps) = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
figure.suptitle("Training loss, and embeddings of the five unseen digits")
for name, losses in {"hardest": hardest_losses, "semi-hard": semihard_losses}.items():
    left.plot(losses, label=name)
left.axhline(MARGIN, color="grey", linestyle=":", label="margin")
left.set(xlabel="step", title="loss", ylim=(0, 0.4))
left.legend()
models = {"untrained": network(0), "hardest: collapse": collapsed, "semi-hard": semihard}
for axes, (name, model) in zip(maps, models.items(), strict=True):
    with torch.no_grad():
        points = nn.functional.normalize(model(test_images))
    # the two directions in which they differ most, at one scale for all three
    x, y = ((points - points.mean(0)) @ torch.pca_lowrank(points, 2)[2]).T
    for digit in test_labels.unique():
        which = test_labels == digit
        axes.scatter(x[which], y[which], s=5, label=int(digit))
    axes.set(title=name, xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
maps[-1].legend(markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# In two of its 16 dimensions the collapsed model is a dot at the scale of the others. Under semi-hard negatives the
# unseen digits spread out and begin to gather by class; the groups still overlap.
#
# ## Strategies side by side
#
# Every loss takes every choice of negatives, so a strategy is one argument. A schedule changes it on the way:
# `Warmup` begins with all negatives. The last line is no triplet loss, but a softmax over all.

# %%
WARM = STEPS // 3
strategies = {
    "hardest": (TripletLoss(MARGIN, negatives="hardest"), None),
    "8 hardest": (TripletLoss(MARGIN, negatives=TopK(8)), None),
    "hardest, after all": (TripletLoss(MARGIN), Warmup(All(), Hardest(), WARM)),
    "32 hardest, after all": (TripletLoss(MARGIN), Warmup(All(), TopK(32), WARM)),
    "all": (TripletLoss(MARGIN, negatives="all"), None),
    "semi-hard": (TripletLoss(MARGIN, negatives="semihard"), None),
    "SupCon": (SupConLoss(0.1), None),
}
results = {"pixels": [judged(nn.Flatten())] * SEEDS}
results["untrained"] = [judged(network(seed)) for seed in range(SEEDS)]
for name, (loss, schedule) in strategies.items():
    results[name] = [judged(train(loss, seed, schedule)[0]) for seed in range(SEEDS)]
print(f"{'':22}{'mAP@R, %':>10}{'(seeds)':>14}{'recall@1, %':>13}{'(seeds)':>14}")
for name, found in results.items():
    line = f"{name:22}"
    for values, width in zip(zip(*found, strict=True), (10, 13), strict=True):
        line += f"{sum(values) / SEEDS:{width}.1f}"
        line += f"{f'{min(values):.1f} to {max(values):.1f}':>14}"
    print(line)

# %% [markdown]
# What the table shows, over three seeds:
#
# - **The hardest negative alone collapses**, and so do the eight hardest of an anchor's 120 negatives: mAP@R falls
#   below that of the untrained network and of the pixels.
# - **A warm-up is half a cure for the hardest**: above the untrained network and the pixels, at about half of what
#   the others reach. With the 32 hardest after it nothing is lost.
# - **Semi-hard, all, the 32 hardest after a warm-up and SupCon all learn**. Their ranges overlap: these seeds do not
#   say which of them is the best.
# - **Recall@1 tells another story**: the pixels alone have 91 %, more than every network, since the nearest picture
#   is one of the same digit at the same place. Whether a digit finds all of its class is what mAP@R says. Choose the
#   metric before the loss.
#
# Larger data tell the good strategies apart: see [Studies](../studies.md), where several hard negatives are ahead on
# 659 unseen classes of Omniglot. [Which loss, which negatives](../choosing.md) lists symptoms and cures, [Seeing what
# the miner does](../diagnostics.md) the numbers of `Diagnostics`.
