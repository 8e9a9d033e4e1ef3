"""The rules of the house: who imports whom and no circles, one door per third party, names, sizes, and no strays.

A rule takes a module and gives its faults. Each rule is tried on a text that breaks it, too.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "filters", "admin", "sql", "templates")

MAY_IMPORT: dict[str, set[str]] = {
    "sql": set(),
    "templates": set(),
    "gateway": {"gateway", "sql"},
    "gateway/__main__.py": {"gateway", "sql", "admin"},  # the composition root
    "filters": {"gateway"},
    "admin": {"admin", "gateway", "sql", "templates"},
}

ORDER = (
    "clock", "ids", "zones", "networks", "planes", "problems", "options", "yamls", "tasks", "turns", "recent", "console",  # what every room uses
    "http",
    "database", "partitions", "changes", "lookup", "secrets", "snapshot", "source", "identity", "limits",
    "model", "exchange",
    "logs", "metrics", "prometheus", "tracing",
    "transform", "directory", "upstream", "usage", "cache",
    "runtime", "pipeline",
    "settings", "config", "health", "server", "explain", "demo",
    "lifecycle", "commands", "__main__",
)  # fmt: skip
"""The rooms of `gateway`, a folder or a file each, from the ground up: each uses only those before it."""

DOORS = {
    "aiohappyeyeballs": {"gateway/upstream/dialling.py"},
    "aiohttp.*Connector": set(),
    "aiohttp.*Resolver": set(),
    "aiohttp.Client*": set(),
    "aiohttp.client*": set(),
    "aiohttp.connector": set(),
    "aiohttp.http_exceptions": {"gateway/server/aiohttp_inside.py", "gateway/upstream/heads.py"},
    "aiohttp.request": set(),
    "aiohttp.resolver": set(),
    "apispec": {"admin/openapi/json_schemas.py"},
    "asyncpg": {"gateway/database.py"},
    "cryptography": {"gateway/identity/jwts.py", "gateway/secrets/vault.py"},
    "jsonschema_rs": {"gateway/transform/rules.py"},
    "jwt": {"gateway/identity/jwts.py"},
    "opentelemetry": {"gateway/tracing.py"},
    "prometheus_client": {"gateway/prometheus.py"},
    "re2": {"gateway/transform/rules.py"},
    "redis": {"gateway/limits/memory.py", "gateway/*store*.py"},
    "rich": {"gateway/__main__.py", "gateway/console.py"},
    "uvloop": {"gateway/__main__.py", "gateway/console.py"},
    "yaml": {"gateway/yamls.py"},
}

UNTESTED = {
    "admin/control.py": "a record without behaviour",
    "gateway/runtime.py": "a record without behaviour; what could go wrong, its growth, is tested here",
}

TESTED_WITH = {
    "gateway/clock.py": "tests/gateway/lifecycle/test_wiring.py",  # a worker's clock is the system's
}
"""Modules of which a test file of their own would say nothing, and the file that tries them."""

FILTER_LINES, MODULE_LINES, FUNCTION_LINES, RUNTIME_FIELDS = 200, 400, 60, 6

EMPTY_WORDS = {"base", "common", "data", "helper", "helpers", "info"}
EMPTY_WORDS |= {"manager", "misc", "process", "service", "util", "utils"}

CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*|__all__")
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONTAINERS = {"dict", "list", "set"}
GROWING = {"Counter", "OrderedDict", "WeakKeyDictionary", "WeakSet", "bytearray", "defaultdict"}
GROWING |= {"WeakValueDictionary", "deque"}

# In upper case anywhere in a text; in any case where the text begins with it.
STATEMENT = r"(?:SELECT\s.*?\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM)\s"
SQL = re.compile(rf"\b{STATEMENT}|\A\s*(?i:{STATEMENT})", re.S)
NOTIFICATION = re.compile(r"\b(?:LISTEN|NOTIFY)\s+\w")

SKIPS = (
    "pytest.skip",
    "pytest.xfail",
    "pytest.importorskip",
    "pytest.mark.skip*",
    "pytest.mark.xfail",
)

# A letter in brackets keeps this file from holding what it looks for.
ELSEWHERE = re.compile(
    r"(?<![\w.])/(?:work|farm)/|/tmp/ven[v]\b|\bworkplac[e]\b|\bCE[O]\b|\bshared/(?:design|reference|seed)/"
)
DOCUMENT = re.compile(r"(?<![\w:/.*}-])(?:[\w-]+/)*([\w-]+\.md)\b")


@dataclass(frozen=True)
class Module:
    """A Python file: its path from the root and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    @property
    def stem(self) -> str:
        return Path(self.path).stem

    def definitions(self) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def imports(self) -> Iterator[tuple[str, str]]:
        """Give what is imported: the name that stands for it here, if any, and its full name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for name in node.names:
                    first = name.name.partition(".")[0]
                    yield name.asname or "", name.name
                    yield (first, first) if not name.asname else ("", name.name)
            elif isinstance(node, ast.ImportFrom):
                folder = self.path.split("/")[: -node.level] if node.level else []
                origin = ".".join([*folder, *filter(None, [node.module])])
                for name in node.names:
                    yield name.asname or name.name, f"{origin}.{name.name}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield "", str(getattr(node.args[0], "value", ""))

    @cached_property
    def names(self) -> set[str]:
        """Return the full names that are imported, or reached by attribute from an import."""
        found = {full for _, full in self.imports()}
        bound = dict(self.imports())
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                first, _, rest = ast.unparse(node).partition(".")
                if first in bound:
                    found.add(f"{bound[first]}.{rest}")
        return found

    @property
    def room(self) -> str:
        """The folder or the file of a package that this is in; for a package's own file nothing."""
        return room_of(self.path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))


def room_of(name: str) -> str:
    """The room of a full name."""
    return name.split(".")[1] if "." in name else ""


Rule = Callable[[Module], Iterator[str]]


def imports_only_what_its_layer_may(module: Module) -> Iterator[str]:
    allowed = MAY_IMPORT.get(module.path, MAY_IMPORT[module.package])
    for name in sorted({full.partition(".")[0] for _, full in module.imports()}):
        if name in PACKAGES and name not in allowed:
            yield f"imports {name}"


def imports_only_from_the_rooms_below(module: Module) -> Iterator[str]:
    """What is imported for annotations alone, or in a function, counts."""
    if module.room not in {"", *ORDER}:
        yield f"is in {module.room}, which has no place in ORDER"
        return
    place = ORDER.index(module.room) if module.room else -1
    for name in sorted({full for _, full in module.imports()}):
        if name.startswith("gateway.") and (other := room_of(name)) in ORDER[place + 1 :]:
            yield f"imports {name}: the room {other} is above {module.room}"


def leaves_private_names_alone(module: Module) -> Iterator[str]:
    for name in sorted(module.names):
        package, _, rest = name.partition(".")
        is_private = any(
            part.startswith("_") and not part.startswith("__") for part in rest.split(".")
        )
        elsewhere = (package, room_of(name)) != (module.package, module.room)
        if is_private and package in PACKAGES and elsewhere:
            yield f"uses {name}, which is private"


def has_a_room_of_few_words(module: Module) -> Iterator[str]:
    if not re.fullmatch(r"(?:gateway|admin)/\w+/__init__\.py", module.path):
        return
    sentences = re.findall(r"[.!?](?=\s|$)", ast.get_docstring(module.tree) or "")
    if len(module.tree.body) != 1 or not 1 <= len(sentences) <= 2:
        yield "is more or less than a docstring of one or two sentences"


def goes_through_the_doors(module: Module) -> Iterator[str]:
    for name in sorted(module.names):
        for pattern, doors in DOORS.items():
            named = fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
            if named and not any(fnmatchcase(module.path, door) for door in doors):
                yield f"uses {name}, whose door is {', '.join(sorted(doors))}"


def has_its_test_file(module: Module) -> Iterator[str]:
    path = Path(module.path)
    own = Path("tests", path.parent, f"test_{path.stem.strip('_')}.py")
    test = Path(TESTED_WITH.get(module.path, own))
    if test != own and (ROOT / own).exists():
        yield f"is in TESTED_WITH and {own} exists"
    if path.stem != "__init__" and (ROOT / test).exists() == (module.path in UNTESTED):
        yield f"is in UNTESTED and {test} exists" if module.path in UNTESTED else f"lacks {test}"


def keeps_the_sizes(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > (most := FILTER_LINES if module.package == "filters" else MODULE_LINES):
        yield f"has {lines} lines, more than {most}"
    for node in module.definitions():
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > FUNCTION_LINES and not isinstance(node, ast.ClassDef):
            yield f"{node.name} has {lines} lines, more than {FUNCTION_LINES}"
        if module.path == "gateway/runtime.py" and isinstance(node, ast.ClassDef):
            fields = sum(isinstance(part, ast.AnnAssign) for part in node.body)
            if fields > RUNTIME_FIELDS:
                yield f"{node.name} has {fields} fields, more than {RUNTIME_FIELDS}"


def opens_with_a_docstring(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "has no docstring"


def names_say_something(module: Module) -> Iterator[str]:
    for name in module.path.removesuffix(".py").split("/"):
        if name.strip("_").rpartition("_")[2] in EMPTY_WORDS:
            yield f"{name}: a name that says nothing"
    for node in module.definitions():
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", node.name) or [""]
        empty = EMPTY_WORDS | ({"handler"} if isinstance(node, ast.ClassDef) else set())
        if words[-1].lower() in empty or words[0] == "do":
            yield f"{node.name}: a name that says nothing"


def keeps_no_state(module: Module) -> Iterator[str]:
    if module.package not in {"gateway", "filters", "admin"}:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield f"rebinds {', '.join(node.names)} of the module"
    for node in outside_functions(module.tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in map(ast.unparse, targets):
                if may_change(node.value, constant=CONSTANT.fullmatch(name) is not None):
                    yield f"{name} is state of the module"


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(
            child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        ):
            yield child
            yield from outside_functions(child)


def may_change(value: ast.expr | None, *, constant: bool) -> bool:
    """Tell whether this is a container that is there to be filled: no constant, or an empty one."""
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).rpartition(".")[2]
        return name in GROWING or (name in CONTAINERS and not (constant and value.args))
    if isinstance(value, DISPLAYS):
        filled = getattr(value, "elts", True) and getattr(value, "keys", True)
        return not (constant and filled)
    return False


def leaves_sql_to_the_folder_sql(module: Module) -> Iterator[str]:
    if module.package == "sql":
        return
    documentation = {
        ast.get_docstring(node, clean=False) for node in [module.tree, *module.definitions()]
    }
    for node in ast.walk(module.tree):
        text = string(node)
        if text in documentation:
            continue
        if SQL.search(text) or (NOTIFICATION.search(text) and module.path not in DOORS["asyncpg"]):
            yield f"line {getattr(node, 'lineno', 0)} holds SQL"


def string(node: ast.AST) -> str:
    """Return the text of a string, with x for each value put into it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(string(part) or "x" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def awaits_before_it_reads(module: Module) -> Iterator[str]:
    """What is awaited in `a.x += …` comes after a.x was read: what it becomes meanwhile is lost."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AugAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
            awaits = [part for part in ast.walk(node.value) if isinstance(part, ast.Await)]
            read = texts([node.value]) - texts(awaits)
            is_read = isinstance(node, ast.AugAssign) or ast.unparse(target) in read
            if awaits and is_read and not isinstance(target, ast.Name):
                yield f"line {node.lineno} reads {ast.unparse(target)} before it awaits"


def texts(nodes: Iterable[ast.expr]) -> set[str]:
    """Return the texts of all expressions within some."""
    return {
        ast.unparse(part) for node in nodes for part in ast.walk(node) if isinstance(part, ast.expr)
    }


def skips_nothing(module: Module) -> Iterator[str]:
    for name in sorted(module.names):
        if any(fnmatchcase(name, skip) for skip in SKIPS):
            yield f"uses {name}: make what the test needs, or fail"


def shares_by_modules_alone(module: Module) -> Iterator[str]:
    for name in sorted({full for _, full in module.imports() if full.startswith("tests.")}):
        if any(part == "conftest" or part.startswith("test_") for part in name.split(".")[1:]):
            yield f"uses {name}: what several files share is a module of its own"


RULES: dict[Rule, tuple[str, ...]] = {
    imports_only_what_its_layer_may: PACKAGES,
    imports_only_from_the_rooms_below: ("gateway",),
    leaves_private_names_alone: PACKAGES,
    has_a_room_of_few_words: PACKAGES,
    goes_through_the_doors: PACKAGES,
    has_its_test_file: PACKAGES,
    keeps_the_sizes: PACKAGES,
    opens_with_a_docstring: (*PACKAGES, "tests"),
    names_say_something: PACKAGES,
    keeps_no_state: PACKAGES,
    leaves_sql_to_the_folder_sql: PACKAGES,
    awaits_before_it_reads: PACKAGES,
    skips_nothing: ("tests",),
    shares_by_modules_alone: ("tests",),
}


@cache
def modules(folders: tuple[str, ...]) -> list[Module]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module(rule: Rule) -> None:
    found = modules(RULES[rule])
    faults = [f"{module.path}: {fault}" for module in found for fault in rule(module)]

    assert found
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (imports_only_what_its_layer_may, "sql/__init__.py", "import gateway.keys"),
        (imports_only_what_its_layer_may, "gateway/server/server.py", "from admin import api"),
        (
            imports_only_what_its_layer_may,
            "gateway/server/server.py",
            "import_module('filters.proxy')",
        ),
        (imports_only_what_its_layer_may, "filters/quota.py", "from filters import rate_limit"),
        (imports_only_what_its_layer_may, "filters/quota.py", "from . import rate_limit"),
        (imports_only_what_its_layer_may, "filters/quota.py", "import sql"),
        (imports_only_what_its_layer_may, "admin/keys.py", "def f():\n    import filters"),
        (imports_only_from_the_rooms_below, "gateway/http/wire.py", "import gateway.exchange"),
        (imports_only_from_the_rooms_below, "gateway/model.py", "from gateway import transform"),
        (
            imports_only_from_the_rooms_below,
            "gateway/model.py",
            "if TYPE_CHECKING:\n    from gateway.transform.request import Mapped",
        ),
        (
            imports_only_from_the_rooms_below,
            "gateway/limits/memory.py",
            "def f():\n    from gateway.metrics import Metrics",
        ),
        (imports_only_from_the_rooms_below, "gateway/attic/boxes.py", ""),
        (leaves_private_names_alone, "filters/proxy.py", "from gateway.upstream.answer import _X"),
        (leaves_private_names_alone, "admin/keys.py", "from admin import plans\nplans._X"),
        (leaves_private_names_alone, "gateway/cache/rules.py", "import gateway.http._x"),
        (has_a_room_of_few_words, "gateway/http/__init__.py", '"""What both share."""\nX = 1'),
        (has_a_room_of_few_words, "admin/state/__init__.py", '"""One. Two. Three."""'),
        (has_a_room_of_few_words, "admin/state/__init__.py", ""),
        (goes_through_the_doors, "admin/keys.py", "import asyncpg"),
        (goes_through_the_doors, "admin/keys.py", "from redis.asyncio import Redis"),
        (
            goes_through_the_doors,
            "gateway/health/active.py",
            "import aiohttp\naiohttp.ClientSession()",
        ),
        (goes_through_the_doors, "gateway/health/active.py", "from aiohttp import TCPConnector"),
        (
            goes_through_the_doors,
            "gateway/health/active.py",
            "from aiohttp import client_proto as p",
        ),
        (
            goes_through_the_doors,
            "gateway/health/active.py",
            "import aiohttp as a\na.connector.x()",
        ),
        (has_its_test_file, "gateway/nowhere.py", ""),
        (keeps_the_sizes, "filters/quota.py", "x = 1\n" * 201),
        (keeps_the_sizes, "gateway/identity/keys.py", "x = 1\n" * 401),
        (keeps_the_sizes, "gateway/identity/keys.py", "def f():\n" + "    x = 1\n" * 60),
        (keeps_the_sizes, "gateway/runtime.py", "class Runtime:\n" + "    x: int\n" * 7),
        (opens_with_a_docstring, "gateway/identity/keys.py", "x = 1"),
        (names_say_something, "gateway/key_utils.py", ""),
        (names_say_something, "admin/common/keys.py", ""),
        (names_say_something, "gateway/identity/keys.py", "class KeyManager: ..."),
        (names_say_something, "gateway/identity/keys.py", "class HTTPHandler: ..."),
        (names_say_something, "gateway/identity/keys.py", "def do_it(): ..."),
        (names_say_something, "gateway/identity/keys.py", "async def process(): ..."),
        (keeps_no_state, "filters/quota.py", "seen: set[str] = set()"),
        (keeps_no_state, "filters/quota.py", "SEEN = {}"),
        (keeps_no_state, "filters/quota.py", "if True:\n    counts = {'a': 1}"),
        (keeps_no_state, "filters/quota.py", "COUNTS = collections.defaultdict(int)"),
        (keeps_no_state, "filters/quota.py", "def f():\n    global x\n    x = 1"),
        (leaves_sql_to_the_folder_sql, "admin/keys.py", "x = 'SELECT id\\nFROM t '"),
        (leaves_sql_to_the_folder_sql, "admin/keys.py", "x = f'select {a} from {b} '"),
        (leaves_sql_to_the_folder_sql, "admin/keys.py", "x = 'UPDATE key SET name = $1'"),
        (leaves_sql_to_the_folder_sql, "admin/keys.py", "x = 'WITH a AS (DELETE FROM t )'"),
        (leaves_sql_to_the_folder_sql, "admin/keys.py", "x = f'NOTIFY {channel}'"),
        (awaits_before_it_reads, "gateway/ids.py", "async def f(a):\n    a.x |= await a.y()"),
        (awaits_before_it_reads, "gateway/ids.py", "async def f(a):\n    a.x = a.x + await a.y()"),
        (shares_by_modules_alone, "tests/test_keys.py", "from tests.admin.conftest import users"),
        (shares_by_modules_alone, "tests/test_keys.py", "from tests.admin import test_keys"),
        (skips_nothing, "tests/test_keys.py", "import pytest\npytest.mark.skipif(True)"),
    ],
)
def test_each_rule_finds_its_fault(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text)))


def imported(found: Sequence[Module]) -> dict[str, set[str]]:
    """For each module's full name those of the others that it imports, annotations and functions included."""
    names = {
        module.path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): module
        for module in found
    }
    return {
        name: {
            other
            for _, full in module.imports()
            for other in (full, full.rpartition(".")[0])
            if other in names and other != name
        }
        for name, module in names.items()
    }


def of_rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same for rooms; a package's own file is none."""
    rooms: dict[str, set[str]] = {}
    for name, others in graph.items():
        room = ".".join(name.split(".")[:2])
        found = rooms.setdefault(room, set())
        found |= {".".join(other.split(".")[:2]) for other in others if "." in other} - {room}
    return rooms


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Who imports whom in circles."""
    left = graph
    while True:  # what imports nothing that is left, or is imported by nothing, is in no circle
        used = set().union(*left.values())
        outside = {name for name, others in left.items() if not others or name not in used}
        if not outside:
            return sorted(f"{name} imports {', '.join(sorted(left[name]))}" for name in left)
        left = {name: others - outside for name, others in left.items() if name not in outside}


def test_no_modules_import_each_other() -> None:
    assert circles(imported(modules(PACKAGES))) == []


def test_no_rooms_import_each_other() -> None:
    assert circles(of_rooms(imported(modules(PACKAGES)))) == []


@pytest.mark.parametrize(
    "back",
    [
        "import gateway.ids",
        "from gateway.ids import X",
        "from gateway import ids",
        "if TYPE_CHECKING:\n    from gateway.ids import X",
        "def f():\n    from gateway.ids import X",
    ],
)
def test_circle_is_found_wherever_it_is_closed(back: str) -> None:
    texts = {"ids": "import gateway.http.wire", "clock": back, "main": "import gateway.ids"}
    ring = [Module(f"gateway/{name}.py", text) for name, text in texts.items()]
    ring.append(Module("gateway/http/wire.py", "from gateway.clock import Clock"))

    assert len(circles(imported(ring))) == 3
    assert circles(imported([module for module in ring if module.stem != "clock"])) == []


def test_circle_of_rooms_is_found_where_its_files_form_none() -> None:
    texts = {
        "admin/state/document.py": "from admin.templates import catalogue",
        "admin/state/changes.py": "",
        "admin/templates/catalogue.py": "",
        "admin/templates/export.py": "from admin.state import changes",
    }
    graph = imported([Module(path, text) for path, text in texts.items()])

    assert circles(graph) == []
    assert len(circles(of_rooms(graph))) == 2


def test_order_names_each_room_once() -> None:
    rooms = {module.room for module in modules(("gateway",))} - {""}

    assert sorted(ORDER) == sorted(rooms)


def test_rules_let_plain_code_pass() -> None:
    text = '''"""Select a key from those of the team."""

from __future__ import annotations

import aiohttp
from aiohttp import web

NAMES = {"a": 1}
ORDER: tuple[str, ...] = ()
log = logging.getLogger(__name__)

async def wait(answer: web.Response) -> None:
    answer.body = await made_of(answer.body)

def update(answer: web.Response) -> str:
    """Update the set of keys. SELECT one FROM many."""
    seen = {}
    return f"pick one from {seen}"
'''
    module = Module("gateway/runtime.py", text)

    assert [(rule.__name__, fault) for rule in RULES for fault in rule(module)] == []


def test_exceptions_are_still_needed() -> None:
    assert {path for path in UNTESTED | TESTED_WITH if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_comes_from_our_folder(package: str) -> None:
    """Other distributions ship packages of these names, too."""
    found = importlib.import_module(package).__file__

    assert found is not None
    assert Path(found).parent == ROOT / package


def test_repository_speaks_of_the_product_alone() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - any git does
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    known = {path.name for path in files}
    faults = []
    for path in files:
        if "vendor" in path.parts:
            continue
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").split("\n"), 1):
            strays = [name for name in DOCUMENT.findall(line) if name not in known]
            if strays or ELSEWHERE.search(line):
                faults.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")

    assert files
    assert not faults, "\n".join(faults)


def test_version_is_the_same_everywhere() -> None:
    shipped = ConfigParser()
    shipped.read(ROOT / "setup.cfg", "utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    latest = re.search(r"^## \[(.+)\] - (?:Unreleased|\d{4}-\d\d-\d\d)$", changelog, re.M)

    assert latest is not None
    assert gateway.__version__ == shipped["metadata"]["version"] == latest[1]
