# SPDX-License-Identifier: MIT
"""Calls that have no place in gateway/: what cannot know its buffer's size, what hides an error, and memory that
base/mem.c does not count.

An exception is a comment on the same line, `lint: allow NAME, reason`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sources import at, files, main, strip_c

BANNED = {
    **dict.fromkeys(
        ("strcpy", "strcat", "sprintf", "vsprintf", "gets", "stpcpy"),
        "does not know its buffer's size: use strbuf or snprintf",
    ),
    **dict.fromkeys(("strncpy", "strncat"), "pads or leaves out the NUL: use memcpy with a checked length"),
    **dict.fromkeys(("atoi", "atol", "atoll", "atof"), "hides a wrong number: use strtoull with checks"),
    **dict.fromkeys(("alloca", "strdupa"), "takes stack that nobody bounded"),
    **dict.fromkeys(("assert",), "goes away with NDEBUG: use REQUIRE for our bugs, an error value for a peer's"),
    **dict.fromkeys(
        ("strtok", "localtime", "gmtime", "asctime", "ctime", "rand", "srand", "inet_ntoa"),
        "is not thread-safe",
    ),
    **dict.fromkeys(("system", "popen", "tmpnam", "mktemp"), "is an invitation"),
    **dict.fromkeys(("sleep", "usleep"), "blocks a loop: use a timer"),
}
ALLOCATORS = (
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "strdup",
    "strndup",
    "asprintf",
    "vasprintf",
    "posix_memalign",
)
BANNED |= dict.fromkeys(
    ALLOCATORS, "goes past base/mem.c, which counts what lives and can fail: use mem_alloc and its like"
)

CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
# gatewayctl ends after one command and links nothing of the loop; it uses mem.c as well, so it has no exception here.
ALLOWED = {"base/mem.c": set(ALLOCATORS)}


def problems(root: Path) -> Iterator[str]:
    gateway = root / "gateway"
    for path in files(root, ".c", ".cc", ".h", ".def"):
        if not path.is_relative_to(gateway):
            continue
        allowed = ALLOWED.get(str(path.relative_to(gateway)), set())
        text = path.read_text()
        original = text.splitlines()
        for number, line in enumerate(strip_c(text).splitlines(), 1):
            for match in CALL.finditer(line):
                name = match[1]
                if name in allowed or re.search(rf"lint: allow {name}, \w+", original[number - 1]):
                    continue
                yield f"{at(root, path, number)}: {name}() {BANNED[name]}"


if __name__ == "__main__":
    main(problems)
