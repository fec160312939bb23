"""Diffusion models and flows as one algebra: process x prediction x weighting x solver x guidance.

A process mixes data and noise: x_t = alpha(t) x_0 + sigma(t) epsilon. A network predicts some a(t) x_0 + b(t) epsilon.
Together with x_t this gives two equations for x_0 and epsilon. So every network is a `Denoiser`, and every solver
accepts any Denoiser.

    processes    alpha, sigma and the time of a log-SNR: linear, cosine, vp, ve, interpolant, learned
    predictions  converts a prediction (epsilon, x0, v, velocity, edm) to an Estimate of x_0 and epsilon
    times        distributions of training times, and the grids of times that solvers visit
    samplers     one step of each solver: ancestral, ddim, euler, heun, dpm_solver, ...; `solve` runs them
    guidance     wraps denoisers: guidance, clipping, conversion to another process; keeps a known part
    ode          the probability-flow ODE by diffrax, and the exact likelihood along it
    bounds       the variational bound, in nats
    measures     metrics of a model on held-out data
    augmentation random image transforms that condition the network, so that samples do not show them
    conditions   embeds conditions: a class, a caption
    model        a network and its process, as a config describes them
    denoising    evaluates the network of a model: predictions, estimates, denoisers with guidance
    generation   samples from a model by the solver of its config
    one_step     objectives and steps of few-step models: average velocities, shortcuts, consistency functions
    settings     the settings of all of this, as plain values of a config
"""
