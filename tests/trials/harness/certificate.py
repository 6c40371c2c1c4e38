"""A self-signed certificate for the HTTPS listener."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .trial import WORK


def tls_settings() -> dict[str, str]:
    """Returns the settings that enable HTTPS. Needs openssl."""
    directory = WORK / "certificate"
    certificate, key = directory / "cert.pem", directory / "key.pem"
    if not key.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        new_key: list[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files: list[str | Path] = ["-keyout", key, "-out", certificate]
        command = ["openssl", "req", "-x509", "-days", "3650", *new_key, *subject, *files]
        subprocess.run(command, check=True, capture_output=True)
    return {"TLS_CERT": str(certificate), "TLS_KEY": str(key)}
