"""What surrounds a loss in training: memory queues and gradient caching."""
