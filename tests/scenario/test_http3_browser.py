# SPDX-License-Identifier: MIT
"""Chromium over HTTP/3: found by Alt-Svc, and forced. The page itself says which protocol it came by."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.tls import Authority, openssl

Maker = Callable[..., Gateway]

pytestmark = [
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway with the browser page's app, and the hash by which Chromium takes its key for a known one."""
    directory = tmp_path_factory.mktemp("browser")
    authority = Authority(directory / "authority")
    cert, key = authority.issue("localhost", "/CN=localhost", "DNS:localhost,IP:127.0.0.1", days=None)
    public = openssl("x509", "-in", str(cert), "-pubkey", "-noout")
    spki = base64.b64encode(hashlib.sha256(openssl("pkey", "-pubin", "-outform", "der", stdin=public)).digest())
    # A browser goes on with a connection of HTTP/2 as long as it has one, whatever Alt-Svc says; so it ends soon.
    limits = {"keep_alive_requests": 3}
    tls = {"certificates": [{"cert": str(cert), "key": str(key)}]}
    gateway = Gateway(directory, quic=True, tls=tls, limits=limits)
    try:
        gateway.start()
        gateway.start_workers(1, "browser_page:app")
        yield gateway, spki.decode()
        gateway.finish()
    finally:
        gateway.kill()


def browse(site: tuple[Gateway, str], directory: Path, *switches: str) -> Any:
    """Loads the page; what its script has noted: the protocol of each thing that it loaded."""
    gateway, spki = site
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--timeout=20000"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-quic"]
    command += ["--host-resolver-rules=MAP localhost 127.0.0.1"]  # the gateway is not at ::1
    command += [f"--user-data-dir={directory}/profile", f"--ignore-certificate-errors-spki-list={spki}", *switches]
    command += ["--virtual-time-budget=15000", "--dump-dom", f"https://localhost:{gateway.tls_port}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = re.search(r'<pre id="told">(\{.*?\})</pre>', done.stdout)
    assert told, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return json.loads(told[1])


def test_forced(site: tuple[Gateway, str], tmp_path: Path) -> None:
    told = browse(site, tmp_path, f"--origin-to-force-quic-on=localhost:{site[0].tls_port}")
    assert told["page"] == "h3", told
    assert set(told["fetched"]) == {"h3"}, told
    assert told["uploaded"] == 300_000


def test_found_by_alt_svc(site: tuple[Gateway, str], tmp_path: Path) -> None:
    """The page comes by HTTP/2 and tells of HTTP/3; what is fetched later comes by that."""
    # Chromium takes no key of an unknown authority for QUIC, unless its host is forced, be it at another port.
    told = browse(site, tmp_path, "--origin-to-force-quic-on=localhost:1")
    assert told["page"] == "h2", told
    assert told["fetched"][-1] == "h3", told
    assert told["uploaded"] == 300_000
