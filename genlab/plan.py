"""stub"""


def plan(config, build, topology):
    return ''
