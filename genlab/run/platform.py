"""The platform that a run computes on: JAX's settings and the memory allocator's."""

import ctypes
import os
import pathlib
import sys

from absl import logging


def set_up_jax(only_compile: bool = False) -> None:
    """Configures JAX for a run, with a compilation cache on disk that later processes reuse.

    JAX_COMPILATION_CACHE_DIR moves the cache; set to the empty string it disables it.

    Args:
      only_compile: compile for absent devices, so open none of the accelerators present.
    """
    logging.set_verbosity(logging.WARNING)  # the libraries log much at INFO
    keep_freed_memory()
    import jax

    cache = os.environ.get('GENLAB_CACHE', '~/.cache/genlab')
    if only_compile:  # a program for absent devices cannot be read from the cache
        jax.config.update('jax_enable_compilation_cache', False)
    elif 'JAX_COMPILATION_CACHE_DIR' not in os.environ and cache:
        jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(cache).expanduser() / 'jax'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
    if only_compile:
        jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_cpu_enable_async_dispatch', False)  # one more thread on a CPU competes with the others


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks for the next allocation.

    A step on the CPU allocates and frees the same large buffers each time. Returned to the kernel, they cost one page
    fault per 4 KB, a fifth of a step. Large blocks stay only in the first arena. Two arenas let nearly all threads
    reach it and keep small allocations from waiting for each other. MALLOC_ARENA_MAX in the environment disables all of
    this.
    """
    if 'MALLOC_ARENA_MAX' in os.environ or not sys.platform.startswith('linux'):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # absent in musl
    if mallopt is None:
        return
    trim, top_pad, mmap, arenas = -1, -2, -3, -8  # malloc.h
    for option, value in ((arenas, 2), (mmap, 2**30), (trim, 2**31 - 1), (top_pad, 2**26)):
        mallopt(option, value)
