"""The probability-flow ODE."""
