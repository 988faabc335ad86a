"""What is timed on a GPU: shapes, contenders and targets."""
