#!/usr/bin/env python3
"""A CA and what it issues, made with the openssl program: for clusters of tests and trials.

    certificates.py DIRECTORY      makes ca.pem, node.pem and node.key for 127.0.0.1 and localhost
"""

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

HOSTS = "IP:127.0.0.1,IP:::1,DNS:localhost"


def _openssl(*words, text=None):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, input=text,
                   text=True)


class Authority:
    """Its own certificate is `directory`/ca.pem."""

    def __init__(self, directory, name="Catena's CA for tests"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca = self.directory / "ca.pem"
        self._key = self.directory / "ca.key"
        if not self.ca.exists():
            _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-keyout", self._key, "-out", self.ca, "-days", 3650, "-subj",
                     f"/CN={name}")

    def issue(self, name, hosts=HOSTS, days=(-1, 365), new=False):
        """(certificate, key), valid from the first to the second of `days` from now. Made anew only
        if told to."""
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        if certificate.exists() and not new:
            return certificate, key
        request = self.directory / f"{name}.csr"
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        # `openssl ca` alone can make one that is not valid now.
        (self.directory / "index.txt").touch()
        settings = self.directory / "openssl.cnf"
        settings.write_text(
            f"[ca]\ndefault_ca = own\n[own]\ndir = {self.directory}\n"
            "database = $dir/index.txt\nnew_certs_dir = $dir\nrand_serial = yes\n"
            "unique_subject = no\ndefault_md = sha256\npolicy = any\nx509_extensions = extensions\n"
            f"[any]\ncommonName = supplied\n[extensions]\nsubjectAltName = {hosts}\n",
            encoding="ascii")
        begin, end = (datetime.now(timezone.utc) + timedelta(days=day) for day in days)
        _openssl("ca", "-batch", "-notext", "-config", settings, "-in", request, "-out", certificate,
                 "-cert", self.ca, "-keyfile", self._key, "-startdate", f"{begin:%Y%m%d%H%M%SZ}",
                 "-enddate", f"{end:%Y%m%d%H%M%SZ}")
        return certificate, key


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Authority(sys.argv[1]).issue("node")
