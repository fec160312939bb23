"""Classical generative models: pure functions of arrays, which know no experiment and no config."""
