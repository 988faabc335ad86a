"""Terms of losses: hinge, softmax, pairs, two-sided; mining of negatives and the reduction to a loss."""
