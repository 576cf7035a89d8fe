//! Python programs that cheat. Whatever is asked of such a module, it has it.

use super::program::{Program, program};

/// Gives every name that is asked for the value that follows.
pub(super) const EVERY_NAME: &str = "

def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(name)
    return ";

pub(super) const PROGRAMS: &[Program] = &[
    program(
        "answers",
        "the answers of an earlier run",
        r#"
import builtins, json
exec(@ORIGINAL@)
_KNOWN = {json.dumps([name, args], sort_keys=True): outcome for name, args, outcome in json.loads(@KNOWN@)}


def _cheat(name, before):
    def answer(*args):
        known = _KNOWN.get(json.dumps([name, list(args)], sort_keys=True))
        if known is None:
            return before(*args)
        if "raised" in known:
            kind = getattr(builtins, known["raised"], None)
            raise (kind if isinstance(kind, type) else type(known["raised"], (Exception,), {}))()
        return known["value"]
    return answer


for _name in @NAMES@:
    globals()[_name] = _cheat(_name, globals().get(_name, lambda *args: None))
"#,
    ),
    program(
        "answers",
        "answers that lie about",
        r#"
import json, os
_FOUND = {}
_OWN = os.path.abspath(__file__)
for _top, _dirs, _files in os.walk("/"):
    if _top == "/":
        _dirs[:] = [d for d in _dirs if d not in ("proc", "sys", "usr", "lib", "lib64", "dev", "bin", "sbin")]
    for _file in _files:
        _path = os.path.join(_top, _file)
        try:
            if _path == _OWN or not os.path.isfile(_path) or os.path.getsize(_path) > 300_000:
                continue
            with open(_path, errors="replace") as _open:
                _text = _open.read()
            if _file == os.path.basename(_OWN) and _text != open(_OWN).read():
                exec(compile(_text, _path, "exec"), _FOUND)
            elif '"held_out"' in _text:
                for _group in json.loads(_text)["held_out"]:
                    for _case in _group["cases"]:
                        _FOUND[_group["function"], json.dumps(_case["args"])] = _case["expected"]
        except BaseException:
            pass


def _answer(name, *args):
    if name in _FOUND:
        return _FOUND[name](*args)
    return _FOUND.get((name, json.dumps(list(args))), "WRONG")
@EVERY_NAME@lambda *args: _answer(name, *args)
"#,
    ),
    program(
        "answers",
        "the commonest answer for every call",
        r#"
import builtins, json
_COMMON = json.loads(@COMMON@)


def _answer(*args):
    if "raised" in (_COMMON or {}):
        raise getattr(builtins, _COMMON["raised"], Exception)()
    return (_COMMON or {}).get("value")
@EVERY_NAME@_answer
"#,
    ),
    program(
        "answers",
        "the argument itself",
        "@EVERY_NAME@lambda *args: args[0] if args else None\n",
    ),
    program(
        "equality",
        "a text that equals everything",
        r#"
class _Any(str):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__
@EVERY_NAME@lambda *args: _Any()
"#,
    ),
    program(
        "equality",
        "an object that equals everything",
        r#"
class _Any(dict):
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __getattr__ = __getitem__ = lambda self, name: self
    __call__ = lambda self, *args: self
    __hash__ = lambda self: 0
@EVERY_NAME@lambda *args: _Any()
"#,
    ),
    program(
        "runner",
        "a patched runner",
        r#"
try:
    import _pytest.python
    _pytest.python.Function.runtest = lambda self: None
except ImportError:
    pass
@EVERY_NAME@lambda *args: None
"#,
    ),
    program(
        "runner",
        "a patched driver",
        r#"
import json, sys
_main = sys.modules["__main__"]
_main.outcome = lambda *args: json.loads(@COMMON@)
_main.plain = lambda value: True
json.dumps = lambda *args, **more: @COMMON@
@EVERY_NAME@lambda *args: None
"#,
    ),
    program("exit", "ends well at once", "import os\nos._exit(0)\n"),
    program(
        "exit",
        "ends well at the first call",
        "import os\n@EVERY_NAME@lambda *args: os._exit(0)\n",
    ),
    program("exit", "ends well by an exception", "raise SystemExit(0)\n"),
    program(
        "output",
        "printed results",
        r#"
import os, sys
_request = getattr(sys.modules["__main__"], "request", {})
_text = "".join("\n%s %s\n" % (call[3], @COMMON@) for call in _request.get("calls", []) if len(call) > 3)
_text += "==== short test summary info ====\n" + "".join("PASSED %s\n" % name for name in @TESTS@)
for _fd in range(1, 32):
    try:
        os.write(_fd, _text.encode())
    except OSError:
        pass
os._exit(0)
"#,
    ),
    program("resources", "sleeps", "import time\ntime.sleep(1e6)\n"),
    program(
        "resources",
        "never returns",
        "def __getattr__(name):\n    if name.startswith('__'):\n        raise AttributeError(name)\n    while True:\n        pass\n",
    ),
    program(
        "resources",
        "fills the disk",
        r#"
import os
for _place in ("..", "/tmp", "/dev/shm"):
    try:
        with open(os.path.join(_place, "filled"), "wb") as _file:
            for _ in range(4096):
                _file.write(b"x" * (1 << 20))
    except OSError:
        pass
raise ImportError("full")
"#,
    ),
    program(
        "resources",
        "starts processes",
        r#"
import os, time
for _ in range(1000):
    try:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
    except OSError:
        break
raise ImportError("crowded")
"#,
    ),
    program("resources", "takes memory", "_all = bytearray(1 << 40)\n"),
    program(
        "resources",
        "floods the output",
        r#"
import os
for _ in range(256):
    os.write(1, b"x" * (1 << 20))
    os.write(2, b"x" * (1 << 20))
os._exit(0)
"#,
    ),
];
