"""What the authors and others released: checkpoints, vocabularies, ECCV Caption."""
