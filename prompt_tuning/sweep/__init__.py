"""Search of training settings with Optuna: igrag sweep."""
