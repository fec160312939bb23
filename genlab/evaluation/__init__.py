"""Evaluation of models: metrics, features, and an evaluator per ability.

result = evaluation.evaluate(config, experiment, placement, state)
evaluation.write(folder, step, result)
"""

from genlab.evaluation.evaluate import Evaluation, evaluate, identify, plain, scalars, steps, write

__all__ = ['Evaluation', 'evaluate', 'identify', 'plain', 'scalars', 'steps', 'write']
