"""Classical models: pure functions over arrays, without networks, losses or devices."""
