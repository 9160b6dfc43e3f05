"""vLLM's own OpenAI-compatible server, with its engine core forked instead of started anew.

`python -m regent.models.vllm_server OPTIONS...` takes vLLM's options. On CPU vLLM spawns every one
of its processes, so that it is imported three times before it serves. Only the worker needs that
(OpenMP reads its binding when it is loaded); the engine core may be forked, as vLLM does it on
GPUs. Starting takes about two thirds of the time, decoding as long as before; with the worker
forked too it would start sooner still and decode a fifth slower (docs/decisions/0003).

Nothing of vLLM is imported by importing this module: the worker imports it as its main module.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"


def fork_the_core() -> None:
    """Let this process fork its engine core, which spawns its worker as before."""
    from vllm.platforms.cpu import CpuPlatform

    platform: Any = CpuPlatform
    settle = platform.check_and_update_config.__func__

    def settle_and_fork(cls: type[Any], config: Any) -> None:
        settle(cls, config)
        os.environ[_METHOD] = "fork"

    def spawn_again() -> None:
        platform.check_and_update_config = classmethod(settle)
        os.environ[_METHOD] = "spawn"

    platform.check_and_update_config = classmethod(settle_and_fork)
    os.register_at_fork(after_in_child=spawn_again)


def main() -> None:
    from vllm.entrypoints.launchers.api_server import entry
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and sys.platform == "linux":
        fork_the_core()
    serve: Any = entry.main
    serve()


if __name__ == "__main__":
    main()
