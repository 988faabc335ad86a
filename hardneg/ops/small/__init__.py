"""Small batches: the whole matrix of scores, and whole losses over it with hand-written gradients."""
