"""nginx before the service, configured as in deploy/proxy/nginx.conf."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.proof.services import ending_on_failure, free_port, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SHIPPED = ROOT / "deploy" / "proxy" / "nginx.conf"
# What stands around the shipped file in /etc/nginx/nginx.conf, for one that runs by itself in a folder.
AROUND = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {paths}
  {shipped}
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Proxy:
    """nginx on a free port, before services on the loopback interface; what was shipped, but for names and ports.

    Args:
        folder: For its files; with TLS it has fullchain.pem and privkey.pem.
        ports: Of the services.
        tls: Whether clients come with TLS, as with the shipped file. Load does not: it is not TLS that is measured.
    """

    def __init__(self, folder: Path, ports: Sequence[int], *, tls: bool = False) -> None:
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._config = folder / "nginx.conf"
        paths = " ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
        user = "user root;" if os.geteuid() == 0 else ""
        shipped = adapted(SHIPPED.read_text(encoding="utf-8"), self.port, ports, folder if tls else None)
        self._config.write_text(AROUND.format(user=user, folder=folder, paths=paths, shipped=shipped))
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Proxy:
        if NGINX is None:
            raise SystemExit("nginx is missing; on Debian: apt-get install nginx-light")
        errors = str(self._folder / "error.log")
        self._process = subprocess.Popen(
            [NGINX, "-p", str(self._folder), "-c", str(self._config), "-e", errors]
        )
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


def adapted(text: str, port: int, services: Sequence[int], certificates: Path | None) -> str:
    """The shipped file with other ports, and the certificate of a folder or, without one, no TLS.

    Raises:
        ValueError: The text does not have what is to be replaced.
    """
    servers = "\n    ".join(f"server 127.0.0.1:{service};" for service in services)
    text = _replaced(r"server 127\.0\.0\.1:8000;\n    # server 127\.0\.0\.1:8001;", servers + "  #", text)
    text = _replaced(r"server \{\n    listen 80;.*?\n\}\n", "", text)
    if certificates is None:
        text = _replaced(r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};", text)
        return _replaced(r"    ssl_certificate .*?ssl_protocols [^\n]*\n", "", text)
    text = _replaced(r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl", text)
    return text.replace("/etc/ssl/dualtower", str(certificates))


def _replaced(pattern: str, new: str, text: str) -> str:
    text, count = re.subn(pattern, lambda _: new, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{SHIPPED} has {pattern} {count} times, not once")
    return text
