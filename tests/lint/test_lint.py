# SPDX-License-Identifier: MIT
"""The linters find what they are for: each gets a small checkout with one fault, and the same without. Prints TAP."""

import sys
import tempfile
import unittest
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import check_banned  # noqa: E402
import check_docs  # noqa: E402
import check_headers  # noqa: E402
import check_layers  # noqa: E402
import check_size  # noqa: E402
import check_tidy  # noqa: E402
from sources import ROOT, strip_c  # noqa: E402

HEADER = "#ifndef GATEWAY_{0}_H\n#define GATEWAY_{0}_H\n{1}\n#endif\n"


class Checkout(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        page = (ROOT / "docs/ARCHITECTURE.md").read_text().splitlines()
        tables = [line for line in page if "](" not in line]
        self.write("docs/ARCHITECTURE.md", "\n".join(tables))

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def expect(self, found: Iterable[str], *words: str) -> None:
        """One problem, and it says every word; without words: none."""
        problems = list(found)
        self.assertEqual(len(problems), 1 if words else 0, problems)
        for word in words:
            self.assertIn(word, problems[0])


class Layers(Checkout):
    def test_allowed(self) -> None:
        self.write("gateway/http/head.c", '#include "http/head.h"\n#include <string.h>\n#include "base/slice.h"\n')
        self.write("gateway/h1/h1_parse.c", '#include <llhttp.h>\n#include "http/head.h"\n#include "h1/h1_conn.h"\n')
        self.write("gateway/ipc/pack.c", "#include <msgpack.h>\n")
        self.write("gateway/main.c", '#include "server.h"\n#include "config/config.h"\n')
        self.expect(check_layers.problems(self.root))

    def test_sibling(self) -> None:
        self.write("gateway/ipc/link.c", '#include "base/list.h"\n#include "http/head.h"\n')
        self.expect(check_layers.problems(self.root), "gateway/ipc/link.c:2", "ipc may not include http/head.h")

    def test_upward(self) -> None:
        self.write("gateway/base/log.c", '#include "loop/loop.h"\n')
        self.expect(check_layers.problems(self.root), "base may not include loop/loop.h")

    def test_config_below(self) -> None:
        self.write("gateway/app/pool.c", '#include "config/config.h"\n')
        self.expect(check_layers.problems(self.root), "app may not include config/config.h")

    def test_top_from_folder(self) -> None:
        self.write("gateway/admin/admin.c", '#include "server.h"\n')
        self.write("gateway/server.h", "")
        self.expect(check_layers.problems(self.root), "admin may not include server.h")

    def test_library_in_wrong_folder(self) -> None:
        self.write("gateway/http/fields.c", "#include <llhttp.h>\n")
        self.expect(check_layers.problems(self.root), "llhttp.h belongs to llhttp")

    def test_library_in_wrong_file(self) -> None:
        self.write("gateway/ipc/frame.c", "#include <msgpack.h>\n")
        self.expect(check_layers.problems(self.root), "ipc/pack.c")

    def test_include_in_comment(self) -> None:
        self.write("gateway/base/log.c", '/*\n#include "loop/loop.h"\n*/\n')
        self.expect(check_layers.problems(self.root))

    def test_unknown_folder(self) -> None:
        self.write("gateway/misc/x.c", "")
        self.expect(check_layers.problems(self.root), "misc is not in the table")


class Size(Checkout):
    def function(self, lines: int) -> str:
        return "static int f(int a,\n             int b)\n{\n" + "    a++;\n" * (lines - 4) + "}\n"

    def test_at_the_limits(self) -> None:
        self.write("gateway/base/a.c", self.function(60) + "\n" * 540)
        self.write("gateway/base/a.h", "\n" * 150)
        self.write("worker/a.py", "def f():\n" + "    pass\n" * 59)
        self.expect(check_size.problems(self.root))

    def test_long_c_function(self) -> None:
        self.write("gateway/base/a.c", "int x;\n" + self.function(61))
        self.expect(check_size.problems(self.root), "gateway/base/a.c:2", "f has 61 lines")

    def test_long_python_function(self) -> None:
        self.write("worker/a.py", "async def f():\n" + "    pass\n" * 60)
        self.expect(check_size.problems(self.root), "f has 61 lines")

    def test_long_file(self) -> None:
        self.write("gateway/base/a.c", "\n" * 601)
        self.expect(check_size.problems(self.root), "601 lines, at most 600")

    def test_long_header(self) -> None:
        self.write("gateway/base/a.h", "\n" * 151)
        self.expect(check_size.problems(self.root), "151 lines, at most 150")

    def test_generated(self) -> None:
        self.write("gateway/ipc/frame_defs.h", "/* GENERATED */\n" + "\n" * 700)
        self.expect(check_size.problems(self.root))


class Headers(Checkout):
    def test_good(self) -> None:
        self.write("gateway/base/a.h", HEADER.format("BASE_A", "#include <stddef.h>\nsize_t a(void);"))
        self.write("gateway/base/b.h", HEADER.format("BASE_B", '#include "base/a.h"\nsize_t b(void);'))
        self.expect(check_headers.problems(self.root))

    def test_not_alone(self) -> None:
        self.write("gateway/base/a.h", HEADER.format("BASE_A", "size_t a(void);"))
        self.expect(check_headers.problems(self.root), "does not compile alone", "size_t")

    def test_guard(self) -> None:
        self.write("gateway/base/a.h", HEADER.format("BASE_B", "int a(void);"))
        self.expect(check_headers.problems(self.root), "its guard is not GATEWAY_BASE_A_H")


class Banned(Checkout):
    def test_good(self) -> None:
        self.write("gateway/base/mem.c", "void f(void) { free(malloc(1)); }\n")
        self.write("gateway/base/a.c", 'void f(void) { mem_free(s); x.free(s); log("sprintf(x)"); } /* strcpy( */\n')
        self.expect(check_banned.problems(self.root))

    def test_calls(self) -> None:
        for call in ("strcpy (a, b)", "sprintf(a, b)", "atoi(a)", "malloc(1)", "assert(a)", "gets(a)", "strdup(a)"):
            with self.subTest(call=call):
                self.write("gateway/base/a.c", f"int f(void) {{ return {call}; }}\n")
                self.expect(check_banned.problems(self.root), "gateway/base/a.c:1", call.split("(")[0].strip())

    def test_exception_has_a_reason(self) -> None:
        self.write(
            "gateway/base/a.c", "int f(void) { return system(a); } /* lint: allow system, the user's own hook */\n"
        )
        self.expect(check_banned.problems(self.root))
        self.write("gateway/base/a.c", "int f(void) { return system(a); } /* lint: allow system */\n")
        self.expect(check_banned.problems(self.root), "system()")


class Docs(Checkout):
    def test_flows(self) -> None:
        self.write("gateway/app/forward.c", "static bool forward_pump(struct x *x)\n{\n}\n")
        self.write("gateway/http/codec.h", "struct codec_ops {\n    void (*resume_body)(struct x *x);\n};\n")
        self.write("worker/a.py", "class A:\n    async def receive_data(self): ...\n")
        self.write("docs/FLOWS.md", "`forward_pump` calls resume_body(), then `receive_data`.\n")
        self.expect(check_docs.problems(self.root))
        self.write("docs/FLOWS.md", "ok\n`forward_push` is next\n")
        self.expect(check_docs.problems(self.root), "docs/FLOWS.md:2", "forward_push")

    def test_option(self) -> None:
        self.write("gateway/config/schema.def", "OPTION(listen, backlog, UINT)\nOPTION(listen, mode, MODE)\n")
        self.write("docs/CONFIGURATION.md", "`backlog` `mode`\n")
        self.write("conf/gateway.toml", "# backlog = 1\n# mode = 2\n")
        self.expect(check_docs.problems(self.root))
        self.write("conf/gateway.toml", "# backlog = 1\n")
        self.expect(check_docs.problems(self.root), "schema.def:2", "listen.mode is not in conf/gateway.toml")

    def test_link(self) -> None:
        self.write("README.md", "[a](docs/ARCHITECTURE.md#words) [b](https://example.com/x) [c](docs/NONE.md)\n")
        self.expect(check_docs.problems(self.root), "docs/NONE.md leads nowhere")

    def test_help(self) -> None:
        self.write("Makefile", "x := 1\nall: y ## build\n")
        self.expect(check_docs.problems(self.root))
        self.write("Makefile", "all: y ## build\nother: y\n")
        self.expect(check_docs.problems(self.root), "target other")

    def test_machine_path(self) -> None:
        self.write("tests/a.py", f"path = '{self.root}/x'\n")
        self.expect(check_docs.problems(self.root), "a path of one machine")


class Tidy(Checkout):
    def test_cache_key_follows_headers(self) -> None:
        self.write("gateway/base/a.c", '#include "base/a.h"\n')
        self.write("gateway/base/a.h", '#include "base/b.h"\n')
        self.write("gateway/base/b.h", "int b;\n")
        path = self.root / "gateway/base/a.c"
        before = check_tidy.key(self.root, path, "setting")
        self.assertEqual(before, check_tidy.key(self.root, path, "setting"))
        self.write("gateway/base/b.h", "int c;\n")
        self.assertNotEqual(before, check_tidy.key(self.root, path, "setting"))
        self.assertNotEqual(check_tidy.key(self.root, path, "setting"), check_tidy.key(self.root, path, "other"))

    def test_finds(self) -> None:
        self.write("gateway/base/a.c", "int f(int *p);\nint f(int *p)\n{\n    p = 0;\n    return *p;\n}\n")
        self.write(".clang-tidy", (ROOT / ".clang-tidy").read_text())
        self.expect(
            [check_tidy.tidy(self.root, self.root / "gateway/base/a.c", ["-std=c17"])], "gateway/base/a.c:5", "null"
        )


class Strip(unittest.TestCase):
    def test_lines_stay(self) -> None:
        text = 'a /* x\ny */ b "q\\"/*" c // d\ne'
        self.assertEqual(strip_c(text), 'a     \n     b "     " c     \ne')


class TapResult(unittest.TestResult):
    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        bad = [
            text for failed, text in self.failures + self.errors if failed is test or failed.id().startswith(test.id())
        ]
        print("".join(f"# {line}\n" for text in bad for line in text.splitlines()), end="")
        print(f"{'not ok' if bad else 'ok'} {self.testsRun} - {test.id().removeprefix('__main__.')}", flush=True)


if __name__ == "__main__":
    result = TapResult()
    unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]).run(result)
    print(f"1..{result.testsRun}")
    sys.exit(not result.wasSuccessful())
