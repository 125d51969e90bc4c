"""A small nginx before the service, as operators have one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.proof.services import ending_on_failure, free_port, wait_until

NGINX = shutil.which("nginx")
# Requests only ask, so that one that a service did not answer may be sent to the next: `non_idempotent`.
CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream services {{
    {servers}
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://services;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream error timeout http_502 non_idempotent;
      proxy_connect_timeout 1s;
    }}
  }}
}}
"""


class Proxy:
    """nginx on a free port, before services on the loopback interface."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # One failure takes a service out for a second, then it is tried again.
        servers = "\n    ".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;" for port in ports)
        self._config = folder / "nginx.conf"
        self._config.write_text(CONFIG.format(folder=folder, port=self.port, servers=servers))
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Proxy:
        if NGINX is None:
            raise SystemExit("nginx is missing; on Debian: apt-get install nginx-light")
        command = [
            NGINX,
            "-p",
            str(self._folder),
            "-c",
            str(self._config),
            "-e",
            str(self._folder / "error.log"),
        ]
        self._process = subprocess.Popen(command)
        with ending_on_failure(self.end):
            wait_until((self._folder / "nginx.pid").exists, "nginx has started")
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop nginx."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
