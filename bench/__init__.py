"""The harness: plan, workers, store, data sets and the command line."""
