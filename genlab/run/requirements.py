"""What genlab needs of the machine. It is checked before other imports, so this file imports the standard library only.

It must also run on Pythons that are too old for the rest.
"""

import importlib.metadata
import importlib.util
import re
import sys

ACTIVATE = 'activate its environment (. .venv/bin/activate), or run pip install -e . -c constraints.txt'


def check():
    """Ends the process with one line and exit code 1 if genlab cannot run here."""
    reason = missing(sys.platform, sys.version_info)
    if reason:
        sys.stderr.write(f'genlab: {reason}\n')
        sys.exit(1)
    sys.excepthook = explain  # an installation from before an update does not know the packages that came with it


def explain(kind, error, trace):
    """Prints a missing module as one line, and any other error as Python does. The exit code is 1."""
    if not issubclass(kind, ModuleNotFoundError) or '--debug' in sys.argv:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stderr.write(f'genlab: {error} in {sys.executable}: {ACTIVATE}\n')


def missing(platform, version):
    """Returns why genlab cannot run here, with what to do; '' if it can.

    Args:
      platform: value of `sys.platform`.
      version: value of `sys.version_info`.
    """
    if platform == 'win32':
        return 'Windows is not supported: install genlab in WSL (wsl --install), and run it there'
    if tuple(version[:2]) < (3, 11):
        return f'Python {version[0]}.{version[1]} is too old: make an environment of Python 3.11 or newer (README)'
    try:
        needed = importlib.metadata.requires('genlab') or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed; its packages may still be there
        absent = [name for name in ('absl', 'jax') if importlib.util.find_spec(name) is None]
        return f'genlab is not installed in {sys.executable}: {ACTIVATE}' if absent else ''
    for requirement in needed:
        reason = unmet(requirement)
        if reason:
            return reason
    return ''


def unmet(requirement):
    """Returns why a requirement, such as 'jax>=0.10.2', is not met; '' if it is, or if it belongs to an extra."""
    name = re.split(r'[^\w.-]', requirement, maxsplit=1)[0]
    if 'extra ==' in requirement:
        return ''
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f'{name} is not installed in {sys.executable}: {ACTIVATE}'
    least = re.search(r'>=\s*([\d.]+)', requirement)
    if least and release(found) < release(least[1]):
        return f'{name} {found} is too old, genlab needs {name}>={least[1]}: {ACTIVATE}'
    return ''


def release(version):
    """Returns the numbers of a version, without suffixes: '0.10.2.dev5' -> (0, 10, 2)."""
    return tuple(int(part) for part in re.findall(r'\d+', re.split(r'[^\d.]', version)[0]))
