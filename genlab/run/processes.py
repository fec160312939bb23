"""Several processes of one run: where one of them ends, the others end with one line each."""

import atexit
import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import jax
from absl import logging

from genlab.errors import PREEMPTED, UserError

LOST = b'JAX distributed service detected fatal errors'  # what JAX prints before it aborts a process
LINE = 'another process of this run has ended: start all again, they continue from the last checkpoint'
SPARE = 10  # seconds that JAX may take beyond the heartbeat


@contextlib.contextmanager
def together(heartbeat: int) -> Iterator[None]:
    """Ends this process in order where another one of the run is lost. A single process is left alone.

    JAX notices the loss: at once if it is of process 0, else after the heartbeat. It aborts this process from a thread
    of its own, in C++, below pages of text. No Python code is called. So this context catches the abort, and holds the
    text of libraries on stderr back. A collective operation may fail before JAX notices. Then the error waits for JAX.

    Args:
      heartbeat: seconds of silence after which JAX takes a process for dead.

    Raises:
      Exception: of the body, if no other process is lost. Then the others are given `heartbeat` seconds to end too.
    """
    if not jax.distributed.is_initialized():
        yield
        return
    abort = Abort()
    atexit.register(abort.show)  # keeps the handler alive too: JAX may abort as late as in its own exit function
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            time.sleep(heartbeat + SPARE)
        abort.code = getattr(error, 'exit_code', 1)
        # At its exit JAX waits for all processes. One that waits for this one's part of a collective never comes.
        timer = threading.Timer(heartbeat, os._exit, (abort.code,))
        timer.daemon = True
        timer.start()
        raise
    abort.code = 0


class Abort:
    """Catches SIGABRT, and keeps what libraries write on the file of stderr apart from Python's `sys.stderr`.

    The loss of another process becomes one line and the exit code `PREEMPTED`. Any other abort proceeds, with its text.
    """

    def __init__(self) -> None:
        self.code: int | None = None  # of the exit in progress: then JAX's abort needs no line
        self.text = tempfile.TemporaryFile()
        self.shown = 0  # bytes of the text that `show` has written
        sys.stderr.flush()
        sys.stderr = open(os.dup(2), 'w', buffering=1, errors='backslashreplace')
        os.dup2(self.text.fileno(), 2)
        logging.get_absl_handler().python_handler.setStream(sys.stderr)
        faulthandler.enable(sys.stderr)
        # Python would note the signal and return from its handler, and the process would be dead before it reacts.
        self.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(signal.SIGABRT, self.handler)

    def _aborted(self, number: int) -> None:
        if LOST not in self._read():
            faulthandler.dump_traceback(sys.stderr)
            self.show()
            return  # the process ends by the signal
        if self.code is None:
            os.write(sys.stderr.fileno(), f'genlab: {LINE}\n'.encode())
        os._exit(PREEMPTED if self.code is None else self.code)

    def _read(self) -> bytes:
        return os.pread(self.text.fileno(), os.fstat(self.text.fileno()).st_size, 0)

    def show(self) -> None:
        """Writes on stderr what libraries have written since the last call. The text stays: an abort may follow it."""
        text = self._read()
        os.write(sys.stderr.fileno(), text[self.shown :])
        self.shown = len(text)
