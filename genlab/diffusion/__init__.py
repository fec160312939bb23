"""Diffusion and flows as one algebra: process x prediction x weighting x solver x guidance.

A process says how data and noise mix, x_t = alpha(t) x_0 + sigma(t) epsilon. A network predicts some a(t) x_0 + b(t) epsilon;
with x_t that is two equations for x_0 and epsilon, so every network is a `Denoiser`, and every solver takes any Denoiser.

    processes    alpha, sigma and the time of a log-SNR: linear, cosine, vp, ve, interpolant, learned
    predictions  what a network says (epsilon, x0, v, velocity, edm) -> an Estimate of x_0 and epsilon
    times        which times training sees; which times a solver visits
    samplers     one step each: ancestral, ddim, euler, heun, dpm_solver, ...; `solve` runs them
    guidance     what stands between a network and a solver: guidance, clipping, another process, a known part
    ode          the probability-flow ODE by diffrax, and the exact likelihood along it
    bounds       the variational bound, in nats
    measures     what is measured of a model on held-out data
    augmentation image transforms that the network is conditioned on, so that samples do not show them
    conditions   embeds conditions: a class, a caption
    model        a network and its process as a config describes them
    one_step     what few evaluations are learned by: average velocities, shortcuts, consistency functions
    settings     all of this as the plain values of a config
"""
