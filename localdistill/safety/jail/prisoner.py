"""The inmate that runs a program of a model, and nothing else: either as a script, or as a module whose names others
may ask for. Whatever it says is a claim: it can be forged by the program, and whoever listens takes it for plain
values at most. It is never told what is expected."""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
from collections.abc import Callable
from typing import Any

from localdistill.safety.jail.lines import Lines
from localdistill.safety.jail.values import Packer, Unspeakable, unpack

MODULE = "solution"
_SAID_CHARS = 300


def work(job: dict[str, Any], said: Lines, others: Lines) -> int:
    """Run the program as the job says; the exit code."""
    sys.argv, sys.path = ["program"], [path for path in sys.path if path not in job["hidden"]]
    for name in [name for name in sys.modules if name.split(".")[0] == "localdistill"]:
        del sys.modules[name]
    if job["as"] == "script":
        return _script(job["program"], said)
    return _module(job["program"], others)


def _script(program: str, said: Lines) -> int:
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    raised = _run(program, "__main__")
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    is_left = raised is not None and raised["raised"] == "SystemExit"
    said.write({"ended": True} if raised is None or is_left else raised)
    return 0


def _run(program: str, name: str) -> dict[str, str] | None:
    """Run `program` as the module `name`; what it raised, if anything."""
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # what a usual start of Python brings
    module = types.ModuleType(name)
    sys.modules[name] = module
    try:
        exec(compile(program, "<answer>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        return _raised(error)
    return None


def _raised(error: BaseException) -> dict[str, str]:
    try:
        text = f"{error}"[:_SAID_CHARS]
    except BaseException:
        text = ""
    return {"raised": type(error).__name__, "says": text}


def _module(program: str, others: Lines) -> int:
    """Run it, then answer what is asked of its names until the other end is gone."""
    raised = _run(program, MODULE)
    others.write(raised or {"loaded": True})
    if raised is None:
        _Server(sys.modules[MODULE].__dict__, others).serve()
    return 0


class _Server:
    """Answers questions about the names of a module and the things that they lead to."""

    def __init__(self, names: dict[str, Any], others: Lines) -> None:
        self._names, self._others = names, others
        self._things: list[Any] = []

    def serve(self) -> None:
        """Until the other end is gone."""
        while (message := self._others.read()) is not None:
            try:
                answer = self._answer(message)
            except Unspeakable as error:
                answer = {"raised": "Unspeakable", "says": str(error)}
            except BaseException as error:
                answer = _raised(error)
            try:
                self._others.write(answer)
            except ValueError:
                self._others.write({"raised": "Unspeakable", "says": "the value is too long"})

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "names" in message:
            return {"value": self._found(message["names"])}
        thing = self._things[message["of"]]
        if "attribute" in message:
            return {"value": self._pack(getattr(thing, message["attribute"]))}
        if "next" in message:
            return self._next(thing)
        if "state" in message:
            return {"value": self._pack([type(thing).__qualname__, _state(thing)])}
        arguments = [self._unpack(form) for form in message["arguments"]]
        keywords = {name: self._unpack(form) for name, form in message["keywords"].items()}
        if "special" in message:
            value = getattr(type(thing), message["special"])(thing, *arguments)
        else:
            value = thing(*arguments, **keywords)
        answer = {"value": self._pack(value)}
        after = [self._changed(form, argument) for form, argument in zip(message["arguments"], arguments)]
        return answer | ({"after": after} if any(form is not None for form in after) else {})

    def _found(self, names: list[str]) -> dict[str, Any]:
        found = {}
        for name in names:
            if name in self._names:
                with contextlib.suppress(Unspeakable):
                    found[name] = self._pack(self._names[name])
        return found

    def _next(self, thing: Any) -> dict[str, Any]:
        try:
            return {"value": self._pack(next(thing))}
        except StopIteration:
            return {"over": True}

    def _changed(self, form: Any, argument: Any) -> Any:
        """The new form of an argument that was changed in place."""
        if not isinstance(argument, list | dict | set | bytearray):
            return None
        with contextlib.suppress(Unspeakable):
            now = self._pack(argument)
            return now if now != form else None
        return None

    def _pack(self, value: Any) -> Any:
        return Packer(self._refer).pack(value)

    def _refer(self, value: Any) -> dict[str, Any]:
        self._things.append(value)
        kind = type(value)
        return {"is": "thing", "of": len(self._things) - 1, "named": kind.__qualname__,
                "steps": hasattr(kind, "__next__")}

    def _unpack(self, form: Any) -> Any:
        return unpack(form, self._resolve)

    def _resolve(self, form: dict[str, Any]) -> Any:
        if form.get("is") == "own":
            return self._things[form["of"]]
        if form.get("is") == "function":
            return self._borrowed(form["of"])
        raise Unspeakable("no form of a value")

    def _borrowed(self, number: int) -> Callable[..., Any]:
        """A function of the other end, which answers while it waits for us."""
        def borrowed(*arguments: Any, **keywords: Any) -> Any:
            self._others.write({"call": number, "arguments": [self._pack(one) for one in arguments],
                                "keywords": {name: self._pack(one) for name, one in keywords.items()}})
            answer = self._others.read()
            if answer is None:
                raise EOFError
            if "raised" in answer:
                raise RuntimeError(answer["says"])
            return self._unpack(answer["value"])

        return borrowed


def _state(thing: Any) -> Any:
    """What a thing holds, for telling whether two are one."""
    held = dict(getattr(thing, "__dict__", {}))
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                held[name] = getattr(thing, name)
    if not held:
        raise Unspeakable("a thing without anything to compare")
    return held
