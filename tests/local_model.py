"""A real model on this machine, served by llama.cpp: for the tests that are marked `local_llm`.

    WAKEFUL_TEST_GGUF=model.gguf pytest -m local_llm      with the extra `local-llm` installed

Any instruct model of half a billion parameters or more will do; nothing is downloaded.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.targets import free_port

GGUF = os.environ.get("WAKEFUL_TEST_GGUF", "")

NEEDS_MODEL = [
    pytest.mark.local_llm,
    pytest.mark.alone,  # it takes every core there is
    pytest.mark.skipif(not GGUF, reason="WAKEFUL_TEST_GGUF names no model file"),
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None, reason="the extra `local-llm` is not installed"
    ),
]

# One slot: what a prompt begins with stays in its cache from one turn to the next. Prompts that a summary
# displaces are kept in memory (`cache_ram_mib`) and taken up again.
SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.use_jinja = sys.argv[1], int(sys.argv[3]), 1, True
params.port, params.cpuparams.n_threads, params.cpuparams_batch.n_threads = int(sys.argv[2]), 1, 1
params.cache_prompt, params.cache_ram_mib = True, 1024
server = xllamacpp.Server(params)
print("ready", server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def served(window_tokens: int) -> Generator[str]:
    """Yield the base URL of a llama.cpp server in a process of its own, which ends with the block."""
    command = [sys.executable, "-c", SERVER, str(Path(GGUF).resolve()), str(free_port()), str(window_tokens)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True
    )
    assert process.stdout is not None
    try:
        address = next(line.split()[1] for line in process.stdout if line.startswith("ready"))
        yield f"{address.rstrip('/')}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=30)
