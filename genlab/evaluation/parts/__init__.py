"""The judges: each has `applies(subject) -> bool` and `judge(subject) -> Part`."""
