"""Tests that commands, links and examples of README, the docs and docstrings are right."""

import doctest
import importlib
import re
import shlex

import pytest
from absl import flags

from genlab import experiment, main
from genlab.config import check_key
from support.runs import FILES, ROOT, module_of

PAGES = sorted(
    page
    for page in (
        ROOT / 'README.md',
        ROOT / 'CONTRIBUTING.md',
        *(ROOT / 'docs').rglob('*.md'),
        *(ROOT / 'configs').glob('*.py'),
    )
    if 'earlier' not in page.name  # results of earlier versions, by their commands
)
COMMAND = re.compile(r'python -m genlab\.main((?:[^\n`\\]|\\\n)*)')
OTHER = re.compile(r'python -m ((?:genlab\.(?!main)|benchmarks\.)[\w.]+)((?:[^\n`\\]|\\\n)*)')
PLACEHOLDER = re.compile(r'[<>]|\.\.\.')


def commands(text):
    """Yields the arguments of each command in a text, without comments, the rest of the shell line and manifests."""
    for found in COMMAND.finditer(re.sub(r'```yaml.*?```', '', text, flags=re.DOTALL)):
        line = re.split(r'\s+#|&&|\||;|\s{2,}\(', found[1].replace('\\\n', ' '))[0]
        if not PLACEHOLDER.search(line):
            yield shlex.split(line)


def check(arguments):
    """Raises an error where an argument names something that does not exist."""
    given = dict(argument.removeprefix('--').partition('=')[::2] for argument in arguments if argument.startswith('--'))
    path, _, variant = given.pop('config').partition(':')
    config = module_of(ROOT / path).get_config(variant) if variant else module_of(ROOT / path).get_config()
    ours = main.of_choices(config, [f'--{name}={value}' for name, value in given.items()])
    for name, value in given.items():
        if not name.startswith('config.'):
            assert name in flags.FLAGS, f'--{name} is not a flag'
        elif not main.is_new_term(config, f'--{name}={value}') and f'--{name}={value}' not in ours:
            check_key(config, name.removeprefix('config.'))
    for argument in ours:
        main.select(config, argument)
    if ours:
        experiment.load(config.experiment)(config)  # raises where a choice or an option is unknown


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_valid(page):
    for arguments in commands(page.read_text()):
        if any(argument.startswith('--config=') for argument in arguments):
            check(arguments)


def anchors(page):
    """Returns the anchors of the headings of a page, as GitHub and MyST make them."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_links_lead_to_files_and_headings():
    pages = [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')]
    links = [(page, target) for page in pages for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text())]
    links = [(page, *target.partition('#')[::2]) for page, target in links if '://' not in target]
    assert len(links) > 100
    missing = [(page.name, target) for page, target, _ in links if not (page.parent / target).exists()]
    assert missing == []
    known = {page.resolve(): anchors(page) for page in pages}
    wrong = [
        (page.name, target, anchor)
        for page, target, anchor in links
        if anchor and anchor not in known[(page.parent / target if target else page).resolve()]
    ]
    assert wrong == []


EXAMPLES = [path for path in sorted((ROOT / 'genlab').rglob('*.py')) if '>>> ' in path.read_text()]


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    module = importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    failed, attempted = doctest.testmod(module)
    assert attempted > 0 and failed == 0


def test_the_site_lists_every_config_and_variant():
    text = module_of(ROOT / 'docs' / 'conf.py').configs()
    for file in FILES:
        section = text.split(f'## {file.stem}\n')[1].split('\n## ')[0]
        assert all(f'- `:{name}` ' in section for name in main.outline(file)[1]), file.stem


def test_docstrings_become_restructured_text():
    lines = [
        *('Computes |x| of `x`s [B * 2].', '', 'L = a_b', '', '    x -> y_', '', 'one: a', '    b', 'two_: c', ''),
        *('Returns:', '    [B].', '', '>>> f(x)', '1'),
    ]
    module_of(ROOT / 'docs' / 'conf.py').restructure(None, 'function', 'f', None, None, lines)
    assert '\n'.join(lines).rstrip() == '\n\n'.join(
        [
            r'Computes \|x\| of ``x``\ s [B \* 2].',
            'L = a_b',
            '::',
            '    x -> y_',
            '- one: a\n  b\n- two\\_: c',
            ':returns:\n    [B].',
            '>>> f(x)\n1',
        ]
    )


def test_other_commands_exist_and_have_their_flags():
    """Checks the other entry points: the module exists, and its source contains each flag of a command."""
    found = 0
    for page in PAGES:
        for module, rest in OTHER.findall(page.read_text()):
            path = ROOT / module.replace('.', '/')
            path = path / '__main__.py' if path.is_dir() else path.with_suffix('.py')
            assert path.exists(), f'{page.name}: python -m {module}'
            others = (
                'genlab/reporting/comparison.py',
                'genlab/main.py',
                'benchmarks/parity/compare.py',
                'benchmarks/contest.py',
            )
            sources = path.read_text() + ''.join((ROOT / other).read_text() for other in others)
            for flag in re.findall(r'(?<=\s)--[a-z][\w-]*', rest.split('#')[0]):
                defined = f"DEFINE_string('{flag[2:]}'", f"DEFINE_config_file(\n    '{flag[2:]}'"
                assert any(one in sources for one in (f"'{flag}'", *defined)), f'{page.name}: python -m {module} {flag}'
            found += 1
    assert found > 10


@pytest.mark.parametrize(
    'command',
    [
        'python -m genlab.main --config=configs/ddpm.py --config.sample.sampler.churn=0.1',
        'python -m genlab.main --config=configs/dcgan.py --config.train.stpes=3',
        'python -m genlab.main --config=configs/dcgan.py:paper65',
        'python -m genlab.main --config=configs/dcgan.py --mood=train',
    ],
)
def test_a_wrong_command_is_found(command):
    with pytest.raises(Exception, match='stpes|paper65|mood|churn'):
        check(next(commands(command)))


def test_commands_are_found():
    found = [arguments for page in PAGES for arguments in commands(page.read_text())]
    assert len(found) > 40
