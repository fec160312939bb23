"""Images from speech: the players `teacher`, `speech`, `generator` and `discriminator`.

Terms: see `genlab.models.spoken.teacher_terms`, `speech_terms`, `generator_terms` and `discriminator_terms`.
`config.model`: see `settings` there.
"""

from functools import partial

from ml_collections import ConfigDict

from genlab.abilities import Sampler
from genlab.experiment import Experiment, Role, compose
from genlab.models import spoken


def build(config: ConfigDict, axis: str | None = None) -> Experiment:
    """Builds the experiment of `config.model`; see `genlab.models.spoken.settings`."""
    model = spoken.from_config(config, axis)
    names = spoken.discriminators(model)
    return compose(
        config,
        axis,
        partial(spoken.networks, model),
        {
            'teacher': Role(('teacher',), partial(spoken.teacher_terms, model)),
            'speech': Role(('speech',), partial(spoken.speech_terms, model)),
            'discriminator': Role(names, partial(spoken.discriminator_terms, model), names),
            'generator': Role(('generator',), partial(spoken.generator_terms, model), ('generator',)),
        },
        sampler=Sampler(partial(spoken.sample, model), embed_condition=partial(spoken.embed, model)),
        conditions=spoken.CONDITIONS,
    )
