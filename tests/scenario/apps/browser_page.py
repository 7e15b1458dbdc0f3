# SPDX-License-Identifier: MIT
"""A page that fetches until something comes by HTTP/3, uploads something, and notes which protocol each came by."""

from collections.abc import MutableMapping
from typing import Any

PAGE = b"""<!doctype html><title>h3</title><pre id="told"></pre><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const protocolOf = (url) => performance.getEntriesByName(new URL(url, location).href).at(-1)?.nextHopProtocol;
async function run() {
  const told = {page: performance.getEntriesByType("navigation")[0].nextHopProtocol, fetched: []};
  for (let i = 0; i < 100; i++) {
    const url = "/thing?n=" + i;
    await (await fetch(url, {cache: "no-store"})).text();
    told.fetched.push(protocolOf(url));
    if (i >= 4 && told.fetched.at(-1) === "h3") break;
    await wait(100);
  }
  const answer = await fetch("/upload", {method: "POST", body: new Uint8Array(300000)});
  told.uploaded = Number(await answer.text());
  document.getElementById("told").textContent = JSON.stringify(told);
}
run().catch((error) => { document.getElementById("told").textContent = JSON.stringify({error: String(error)}); });
</script>"""


async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body, kind = (b"%d" % size, b"text/plain") if scope["path"] != "/" else (PAGE, b"text/html")
    fields = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
