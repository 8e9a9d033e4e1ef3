"""nginx, which is the upstream where it is installed and also the cheapest proxy we know."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from call import ANSWER, SECRET

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

PROXY = """
upstream upstream {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000000; }}
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://upstream;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }}
}}
"""

UPSTREAM = """
server {{
    listen 127.0.0.1:{port};
    location / {{
        default_type application/json;
        if ($http_authorization != "Bearer {secret}") {{ return 403; }}
        return 200 '{answer}';
    }}
}}
"""

MAIN = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
{temporary}
{server}
}}
"""


def program() -> str | None:
    """Where nginx is; it often lies in a folder that only root has on its PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def proxy(program: str, folder: Path, port: int, upstream_port: int) -> list[str]:
    """The command of a plain `proxy_pass` with kept connections and no access log."""
    return _command(program, folder, PROXY.format(port=port, upstream_port=upstream_port))


def upstream(program: str, folder: Path, port: int) -> list[str]:
    """The command of the upstream: the one answer for the right secret, else 403."""
    server = UPSTREAM.format(port=port, secret=SECRET, answer=ANSWER.decode())
    return _command(program, folder, server)


def _command(program: str, folder: Path, server: str) -> list[str]:
    folder.mkdir()
    temporary = "\n".join(f"    {name}_temp_path {folder}/{name};" for name in TEMPORARY)
    config = folder / "nginx.conf"
    config.write_text(MAIN.format(folder=folder, temporary=temporary, server=server))
    return [program, "-p", str(folder), "-e", "stderr", "-c", str(config)]
