"""Gateways for language models, when their commands are on the PATH: LiteLLM proxy and Portkey.

Both want an environment of their own (`pip install 'litellm[proxy]'`, `npm install -g
@portkey-ai/gateway`), so neither comes with ours.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from call import SECRET, Call, bearer
from children import NotStarted, free_port
from target import Target

if TYPE_CHECKING:
    from children import Children

CALLER = "sk-bench-caller"
OFFLINE = ("env", "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_TELEMETRY=False")


def litellm(children: Children, cores: frozenset[int], upstream_port: int) -> Target:
    """One worker, a master key, no database."""
    program = shutil.which("litellm")
    if program is None:
        raise NotStarted("LiteLLM: not found")
    model = {
        "model_name": "bench",
        "litellm_params": {
            "model": "openai/bench",
            "api_base": f"http://127.0.0.1:{upstream_port}/v1",
            "api_key": SECRET,
        },
    }
    config = children.folder / "litellm.yaml"
    settings = {"model_list": [model], "general_settings": {"master_key": CALLER}}
    config.write_text(json.dumps(settings))  # JSON is YAML
    port = free_port()
    argv = [*OFFLINE, program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    pid = children.start("litellm", argv, cores, port)
    call = Call(port, headers=bearer(CALLER))
    return Target("LiteLLM proxy, no database", call, pid, same_bytes=False)


def portkey(children: Children, cores: frozenset[int], upstream_port: int) -> Target:
    """Passes the caller's own secret on; target and provider come in headers."""
    program = shutil.which("gateway")
    if program is None or "portkey" not in str(Path(program).resolve()):
        raise NotStarted("Portkey: not found")
    port = free_port()
    pid = children.start("portkey", [program, f"--port={port}", "--headless"], cores, port)
    routing = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream_port}/v1",
    }
    call = Call(port, headers=bearer(SECRET) | routing)
    return Target("Portkey gateway, no policy", call, pid, same_bytes=False)
