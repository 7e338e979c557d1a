"""The inmate that runs the tests of a task. What it tests runs in another process: names of the program stand for
calls to there, and what comes back are plain values by their exact type, so that nothing which a program does to its
own process (values that equal everything, changed builtins, an early end) can make a test pass. Every assertion is
counted by itself."""

from __future__ import annotations

import ast
import builtins
import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from localdistill.safety.jail.lines import Lines, LineTooLong
from localdistill.safety.jail.prisoner import MODULE
from localdistill.safety.jail.values import Packer, Unspeakable, unpack

_TOLD_CHARS = 300
_TELL, _FOREIGN = "__tell__", "__foreign__"


class Gone(BaseException):
    """The program's process does not answer any more. No exception: tests must not catch it."""


class ExamRun:
    """The tests of one job."""

    def __init__(self, job: dict[str, Any], said: Lines, program: Lines) -> None:
        self._said, self._wire = said, _Wire(program)
        self._parts: list[ast.Module] = []
        self._names: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        self._job = job

    def run(self) -> None:
        """Every part, in order, in one namespace; what each assertion came to is told at once."""
        if self._begins():
            try:
                self._wire.start()
                self._borrow()
                for part in self._parts:
                    self._run_part(part)
            except Gone:
                self._said.write({"gone": self._wire.why})
        self._said.write({"done": True})

    def _begins(self) -> bool:
        """Read the tests and run what stands before them; nothing of the program has a part in that."""
        try:
            self._parts = [ast.parse(part) for part in self._job["parts"]]
            exec(compile(self._job["before"], "<before>", "exec", dont_inherit=True), self._names)
        except BaseException as error:
            self._said.write({"broken": _told(error)})
            return False
        self._said.write({"total": sum(max(1, len(_assertions(part))) for part in self._parts)})
        return True

    def _borrow(self) -> None:
        """Put the program's names where tests look for them, but never in place of a builtin unless it is what the task
        asks for."""
        wanted = set(self._job["names"])
        for part in self._parts:
            wanted |= _free_names(part) - set(dir(builtins)) - set(self._names)
        found = self._wire.names(sorted(wanted))
        self._names |= found
        module = types.ModuleType(MODULE)
        module.__dict__.update(found)
        sys.modules[MODULE] = module

    def _run_part(self, part: ast.Module) -> None:
        asserted = _assertions(part)
        texts = {number: ast.unparse(node.test) for number, node in enumerate(asserted)}
        passed: dict[int, bool] = {}

        def tell(number: int, error: BaseException | None) -> None:
            if isinstance(error, Gone):
                raise error
            passed[number] = passed.get(number, True) and error is None
            self._tell(error is None, texts[number], error)

        self._names[_TELL] = tell
        counted = ast.fix_missing_locations(_Counted(asserted).visit(part))
        failure: BaseException | None = None
        try:
            exec(compile(counted, "<tests>", "exec", dont_inherit=True), self._names)
            failure = self._functions(part)
        except Gone:
            raise
        except BaseException as error:
            failure = error
        if isinstance(failure, ImportError) and failure.name != MODULE and not hasattr(failure, _FOREIGN):
            self._said.write({"broken": _told(failure)})
        elif failure is not None:
            self._tell(False, "the test", failure)
            for number in texts.keys() - passed.keys():
                self._tell(False, texts[number], None)
        elif not passed:
            self._tell(True, "the test", None)

    def _functions(self, part: ast.Module) -> BaseException | None:
        """Call the test functions that a part defines, as pytest would; the first error."""
        first: BaseException | None = None
        for node in part.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not node.args.args:
                try:
                    self._names[node.name]()
                except Gone:
                    raise
                except BaseException as error:
                    first = first or error
        return first

    def _tell(self, passed: bool, what: str, error: BaseException | None) -> None:
        why = "" if error is None or (isinstance(error, AssertionError) and not str(error)) else _told(error)
        self._said.write({"passed": passed, "what": what[:_TOLD_CHARS], "why": why})


def work(job: dict[str, Any], said: Lines, program: Lines) -> int:
    """Run the tests that the job holds; the exit code."""
    sys.path = [path for path in sys.path if path not in job["hidden"]]
    ExamRun(job, said, program).run()
    return 0


def _told(error: BaseException) -> str:
    with contextlib.suppress(Exception):
        return f"{type(error).__name__}: {error}"[:_TOLD_CHARS].rstrip(": ")
    return type(error).__name__


def _assertions(part: ast.Module) -> list[ast.Assert]:
    """The assertions that are counted one by one: those that no `try` of the tests themselves waits for."""
    found: list[ast.Assert] = []

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Assert):
            found.append(node)
        for name, value in ast.iter_fields(node):
            if not (isinstance(node, ast.Try | ast.TryStar) and name == "body"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        walk(child)

    walk(part)
    return found


class _Counted(ast.NodeTransformer):
    """Makes an assertion tell what it came to, and the tests go on behind one that fails."""

    def __init__(self, asserted: list[ast.Assert]) -> None:
        self._numbers = {id(node): number for number, node in enumerate(asserted)}

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        number = self._numbers.get(id(node))
        if number is None:
            return node
        caught = ast.ExceptHandler(ast.Name("BaseException", ast.Load()), "__failed__", [_tells(number, "__failed__")])
        return ast.copy_location(ast.Try([node], [caught], [_tells(number, None)], []), node)


def _tells(number: int, error: str | None) -> ast.stmt:
    said: ast.expr = ast.Name(error, ast.Load()) if error else ast.Constant(None)
    return ast.Expr(ast.Call(ast.Name(_TELL, ast.Load()), [ast.Constant(number), said], []))


def _free_names(part: ast.Module) -> set[str]:
    """Names that tests read and do not make, as far as their text tells."""
    read, made, borrowed = set[str](), set[str](), set[str]()
    for node in ast.walk(part):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.ImportFrom) and node.module == MODULE:
            borrowed |= {alias.name for alias in node.names}
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name.partition(".")[0])
    return (read - made) | borrowed


class _Wire:
    """Asks the program's process."""

    def __init__(self, program: Lines) -> None:
        self._program = program
        self._functions: list[Callable[..., Any]] = []
        self.why = ""
        """Why it is gone."""

    def start(self) -> None:
        """Wait until the program has been run. Raises Gone when it failed."""
        message = self._read()
        if "raised" in message:
            self.why = f"the program raised {message.get('raised')}: {message.get('says')}"[:_TOLD_CHARS]
            raise Gone

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """What stands under these names in the program, where there is something."""
        forms: Any = self._exchange({"names": wanted}).get("value")
        found: dict[str, Any] = {}
        for name in wanted if isinstance(forms, dict) else ():
            if name in forms:
                with contextlib.suppress(Unspeakable):
                    found[name] = self.unpacked(forms[name])
        return found

    def value(self, **message: Any) -> Any:
        """What comes back. Raises what the program raised, or Gone."""
        return self.unpacked(self._exchange(message).get("value"))

    def call(self, of: int, arguments: tuple[Any, ...], keywords: dict[str, Any], **more: Any) -> Any:
        """Call a thing; arguments that were changed in place are changed here too."""
        answer = self._exchange({"of": of, "arguments": [self._pack(one) for one in arguments],
                                 "keywords": {name: self._pack(one) for name, one in keywords.items()}, **more})
        for argument, form in zip(arguments, answer.get("after") or ()):
            if form is not None:
                _put_into(argument, self.unpacked(form))
        return self.unpacked(answer.get("value"))

    def steps(self, of: int) -> Iterator[Any]:
        """The rest of an iterator of the program."""
        while "over" not in (answer := self._exchange({"of": of, "next": True})):
            yield self.unpacked(answer.get("value"))

    def unpacked(self, form: Any) -> Any:
        """The value of a form; a thing of the program as a `Thing`."""
        return unpack(form, self._resolve)

    def _resolve(self, form: dict[str, Any]) -> Any:
        if form.get("is") != "thing" or type(form.get("of")) is not int:
            raise Unspeakable("no form of a value")
        return self.steps(form["of"]) if form.get("steps") else Thing(self, form["of"], str(form.get("named")))

    def _pack(self, value: Any) -> Any:
        return Packer(self._refer).pack(value)

    def _refer(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Thing):
            return {"is": "own", "of": object.__getattribute__(value, "_of")}
        if callable(value):
            self._functions.append(value)
            return {"is": "function", "of": len(self._functions) - 1}
        raise Unspeakable(f"a test hands over a {type(value).__name__}")

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            self._program.write(message)
        except OSError:
            self.why = "the program ended its process"
            raise Gone from None
        while "call" in (answer := self._read()):
            self._program.write(self._lend(answer))
        if "raised" in answer:
            raise _error(str(answer["raised"]), str(answer.get("says")))
        return answer

    def _lend(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Call a function of the tests for the program."""
        try:
            function = self._functions[asked["call"]]
            arguments = [self.unpacked(form) for form in asked["arguments"]]
            keywords = {name: self.unpacked(form) for name, form in asked["keywords"].items()}
            return {"value": self._pack(function(*arguments, **keywords))}
        except Exception as error:
            return {"raised": type(error).__name__, "says": _told(error)}

    def _read(self) -> dict[str, Any]:
        try:
            message = self._program.read()
        except (ValueError, RecursionError, LineTooLong, OSError):
            message, self.why = None, "the program says what cannot be read"
        if not isinstance(message, dict):
            self.why = self.why or "the program ended its process"
            raise Gone
        return message


def _error(name: str, says: str) -> Exception:
    """An exception of the program, as one of ours."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(Exception):
            error: Exception = kind(says)
            setattr(error, _FOREIGN, True)
            return error
    return RuntimeError(f"{name}: {says}")


def _put_into(argument: Any, now: Any) -> None:
    if type(argument) is list or type(argument) is bytearray:
        argument[:] = now
    elif type(argument) in (dict, set):
        argument.clear()
        argument.update(now)


class Thing:
    """Something of the program that is no plain value: a function, a class, an object. It is compared by what it holds,
    here, never by asking it."""

    def __init__(self, wire: _Wire, of: int, named: str) -> None:
        self._wire, self._of, self._named = wire, of, named

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._wire.call(self._of, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._wire.value(of=self._of, attribute=name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Thing):
            return False
        if other._of == self._of:
            return True
        return bool(self._wire.value(of=self._of, state=True) == self._wire.value(of=other._of, state=True))

    def __hash__(self) -> int:
        return hash(self._named)

    def _special(self, name: str, *arguments: Any) -> Any:
        return self._wire.call(self._of, arguments, {}, special=name)

    def __len__(self) -> int:
        return int(self._special("__len__"))

    def __getitem__(self, key: Any) -> Any:
        return self._special("__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._special("__setitem__", key, value)

    def __contains__(self, key: Any) -> bool:
        return self._special("__contains__", key) is True

    def __iter__(self) -> Iterator[Any]:
        found: Iterator[Any] = self._special("__iter__")
        return iter(found)

    def __str__(self) -> str:
        return str(self._special("__str__"))

    def __repr__(self) -> str:
        return str(self._special("__repr__"))

    def __add__(self, other: Any) -> Any:
        return self._special("__add__", other)

    def __sub__(self, other: Any) -> Any:
        return self._special("__sub__", other)

    def __mul__(self, other: Any) -> Any:
        return self._special("__mul__", other)

    def __bool__(self) -> bool:
        return True
