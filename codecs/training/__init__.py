"""Training: what the learned codecs share when they are trained: schedule, checkpoints, ledger."""
