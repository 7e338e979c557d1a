"""The lint for text on the terminal: what a widget is given to show is written in this program, a number, or made by
`tui/text.py`. It follows names to what was put into them, and calls of the UI's own functions to what they return;
what it cannot follow counts as a stranger's text. What is said to be a `Content` or a number is believed: mypy holds
that, and `Content` itself is made only of what is safe."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAKERS = {"shown", "safe", "line", "joined", "fitted", "display_safe"}
"""Of `tui/text.py`: whatever goes in, what comes out steers no terminal."""
CONTENT = {"Content", "Text"}
"""Types that are shown as they are; their own makers are places where text must be safe."""
NUMBERS = {"int", "float", "bool"}
COUNTING = {"len", "int", "float", "round", "sum", "range", "abs", "bool"}
PASSING = {"str", "list", "tuple", "reversed", "sorted", "min", "max", "enumerate", "zip", "Strip"}
"""What hands on what it is given."""
OF_TEXTS = {"join", "strip", "rstrip", "lstrip", "ljust", "rjust", "center", "lower", "upper", "split", "splitlines",
            "removeprefix", "removesuffix", "replace", "get", "items", "values", "partition", "rpartition", "crop"}
"""Methods whose result is of the same stuff as what they are called on and with."""
WIDGETS = {"Static", "Label", "Option", "Button", "Checkbox", "Collapsible", "TabPane", "Input", "Select", "TextArea",
           "OptionList", "Segment"}
CALLS = WIDGETS | {"notify", "update", "add_row", "add_column", "add_option", "add_options", "Toast",
                   "replace_option_prompt_at_index", "write", "write_line", "styled", "from_markup", "from_text",
                   "assemble"} | CONTENT
"""Calls whose first argument is shown."""
ALL_ARGUMENTS = {"add_row", "add_column", "add_options", "OptionList", "assemble"}
"""Those that show all of them."""
KEYWORDS = {"title", "subtitle", "label", "prompt", "message", "content", "renderable", "text"}
"""Arguments that these calls show."""
ANYWHERE = {"placeholder", "tooltip", "border_title", "border_subtitle", "sub_title"}
"""Arguments that are shown, whoever takes them."""
ATTRIBUTES = ANYWHERE | {"title"}
"""What is assigned to them is shown."""
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Safe = Mapping[str, bool]


@dataclass
class Module:
    """One file, and what its names mean."""

    path: Path
    tree: ast.Module
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    from_text: set[str] = field(default_factory=set)
    """Names that were imported from `tui/text.py`."""
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name -> (module, name there), of the UI's own modules."""


def read(path: Path, source: str = "") -> Module:
    """A file, or `source` as if it stood there."""
    found = Module(path, ast.parse(source or path.read_text()))
    for node in found.tree.body:
        if isinstance(node, FunctionNode):
            found.functions[node.name] = node
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.constants[node.targets[0].id] = node.value
    for node in ast.walk(found.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = alias.asname or alias.name
                if alias.name in MAKERS and node.module in ("tui.text", "localdistill"):
                    found.from_text.add(name)
                elif node.module.startswith("tui."):
                    found.imported[name] = (node.module, alias.name)
    return found


class Lint:
    """The files of the UI together."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        """modules: by their dotted names."""
        self._modules = modules
        self._methods: dict[str, list[tuple[Module, FunctionNode]]] = {}
        for module in modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    for part in node.body:
                        if isinstance(part, FunctionNode):
                            self._methods.setdefault(part.name, []).append((module, part))
        self._under_way: set[tuple[int, frozenset[str]]] = set()

    def breaches(self) -> list[str]:
        """Where something is shown that may be a stranger's text."""
        return [f"{module.path}:{line} {what}" for module in self._modules.values()
                for line, what in self._in(module)]

    def _in(self, module: Module) -> Iterator[tuple[int, str]]:
        if module.path.parts[-2:] == ("tui", "text.py"):
            return
        for function, node in _with_functions(module.tree):
            scope = _Scope(self, module, function, {})
            for what, value in _shown_by(node):
                if not scope.is_safe(value):
                    yield value.lineno, f"{what}: {ast.unparse(value)[:80]}"

    def returns_safe(self, module: Module, function: FunctionNode, call: ast.Call, given: _Scope) -> bool:
        """The function hands out only text that is safe when it is called like this."""
        if (kind := _known(function.returns)) is not None:
            return kind
        arguments = _bound(function, call, given)
        key = (id(function), frozenset(name for name, is_safe in arguments.items() if is_safe))
        if key in self._under_way:
            return True
        self._under_way.add(key)
        try:
            scope = _Scope(self, module, function, arguments)
            results = [node.value for node in _own(function)
                       if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and node.value is not None]
            return bool(results) and all(scope.is_safe(result) for result in results)
        finally:
            self._under_way.discard(key)

    def find(self, module: Module, called: ast.expr) -> list[tuple[Module, FunctionNode]]:
        """The UI's own functions that a call may mean."""
        if isinstance(called, ast.Name):
            if called.id in module.functions:
                return [(module, module.functions[called.id])]
            home, name = module.imported.get(called.id, ("", ""))
            there = self._modules.get(home)
            return [(there, there.functions[name])] if there is not None and name in there.functions else []
        if not isinstance(called, ast.Attribute):
            return []
        found = self._methods.get(called.attr, [])
        own = [one for one in found if one[0] is module] if ast.unparse(called.value) == "self" else []
        return own or found

    def constant(self, module: Module, name: str) -> tuple[Module, ast.expr] | None:
        """What a name of a module stands for."""
        if name in module.constants:
            return module, module.constants[name]
        home, there = module.imported.get(name, ("", ""))
        other = self._modules.get(home)
        return (other, other.constants[there]) if other is not None and there in other.constants else None


class _Scope:
    """One function, or the top of a file; what its parameters hold is known or given."""

    def __init__(self, lint: Lint, module: Module, function: FunctionNode | None, given: Safe) -> None:
        self._lint, self._module, self._function, self._given = lint, module, function, given
        self._asked: set[str] = set()

    def is_safe(self, node: ast.expr | None) -> bool:
        """Nothing of a stranger is in it as it is."""
        match node:
            case None | ast.Constant() | ast.Compare() | ast.Lambda():
                return True
            case ast.UnaryOp(operand=inner):
                return isinstance(node.op, ast.Not) or self.is_safe(inner)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self.is_safe(left) or self.is_safe(right)  # a text and how often
            case ast.BinOp(left=left, right=right):
                return self.is_safe(left) and self.is_safe(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_safe(body) and self.is_safe(orelse)
            case ast.BoolOp(values=parts) | ast.JoinedStr(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
                return all(self.is_safe(part) for part in parts)
            case ast.Dict(values=parts):
                return all(self.is_safe(part) for part in parts)
            case ast.FormattedValue(value=value, format_spec=spec):
                return _is_numeric(spec) or self.is_safe(value)
            case ast.Subscript(value=inner) | ast.Starred(value=inner) | ast.NamedExpr(value=inner):
                return self.is_safe(inner)
            case ast.ListComp(elt=elt) | ast.GeneratorExp(elt=elt) | ast.SetComp(elt=elt):
                return self.is_safe(elt)
            case ast.Name(id=name):
                return self._name(name)
            case ast.Attribute(value=inner, attr="text" | "plain"):
                return self.is_safe(inner)
            case ast.Call():
                return self._call(node)
        return False

    def _call(self, call: ast.Call) -> bool:
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        name = called_name(call)
        if isinstance(call.func, ast.Name):
            if name in self._module.from_text or name in COUNTING:
                return True
            if name in CONTENT | WIDGETS:
                return True  # what they are given is looked at for itself
            if name in PASSING:
                return all(self.is_safe(argument) for argument in arguments)
        found = self._lint.find(self._module, call.func)
        if found:
            return all(self._lint.returns_safe(module, function, call, self) for module, function in found)
        if isinstance(call.func, ast.Attribute):
            if isinstance(call.func.value, ast.Name) and call.func.value.id in CONTENT:
                return True
            return name in OF_TEXTS and self.is_safe(call.func.value) and all(map(self.is_safe, call.args[1:])) and (
                name == "get" or all(map(self.is_safe, call.args[:1])))
        return False

    def _name(self, name: str) -> bool:
        """All that was ever put into the name here is safe."""
        if name in self._asked:
            return True
        annotation = _annotation(name, self._function)
        if (kind := _known(annotation)) is not None:
            return kind
        if name in self._given:
            return self._given[name]
        self._asked.add(name)
        try:
            values = list(_values_of(name, self._function)) if self._function is not None else []
            if annotation is not None and _is_parameter(name, self._function):
                return False
            if values:
                return all(self.is_safe(value) for value in values)
        finally:
            self._asked.discard(name)
        constant = self._lint.constant(self._module, name)
        return constant is not None and _Scope(self._lint, constant[0], None, {}).is_safe(constant[1])


def called_name(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _shown_by(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What a call or an assignment puts on the screen, and how."""
    if isinstance(node, ast.Call):
        name = called_name(node)
        if name in CALLS:
            first = 1 if name == "replace_option_prompt_at_index" else 0
            last = None if name in ALL_ARGUMENTS else first + 1
            yield from ((name, _seen_of(name, argument)) for argument in node.args[first:last])
            yield from ((f"{name}({word.arg}=)", word.value) for word in node.keywords if word.arg in KEYWORDS)
        yield from ((f"{word.arg}=", word.value) for word in node.keywords if word.arg in ANYWHERE)
    elif isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & WIDGETS:
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                yield from (("super().__init__", argument) for argument in call.args[:1])
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for one, value in _paired(target, node.value):
                if isinstance(one, ast.Attribute) and one.attr in ATTRIBUTES:
                    yield f".{one.attr} =", value


def _seen_of(name: str, argument: ast.expr) -> ast.expr:
    """Of the pairs that a Select is given, only the first halves are seen."""
    if name == "Select" and isinstance(argument, ast.ListComp) and isinstance(argument.elt, ast.Tuple):
        return argument.elt.elts[0]
    return argument


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets with what each gets; the whole value where that cannot be told."""
    if isinstance(target, ast.Tuple):
        apart = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
        values = value.elts if apart and isinstance(value, ast.Tuple) else [value] * len(target.elts)
        for one, its in zip(target.elts, values, strict=True):
            yield from _paired(one, its)
    else:
        yield target, value


def _values_of(name: str, function: FunctionNode) -> Iterator[ast.expr]:
    """Everything that is put into a name inside of a function."""
    for node in ast.walk(function):
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args and (
                node.func.attr in ("append", "extend", "insert")):
            pairs = [(node.func.value, node.args[-1])]
        for target, value in pairs:
            yield from (its for one, its in _paired(target, value) if isinstance(one, ast.Name) and one.id == name)


def _parameters(function: FunctionNode) -> list[ast.arg]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument for argument in every if argument is not None]


def _is_parameter(name: str, function: FunctionNode | None) -> bool:
    return function is not None and any(argument.arg == name for argument in _parameters(function))


def _annotation(name: str, function: FunctionNode | None) -> ast.expr | None:
    """What a parameter or a local name is said to be."""
    if function is None:
        return None
    for argument in _parameters(function):
        if argument.arg == name:
            return argument.annotation or ast.Name("object")
    return next((node.annotation for node in ast.walk(function) if isinstance(node, ast.AnnAssign)
                 and isinstance(node.target, ast.Name) and node.target.id == name), None)


def _known(annotation: ast.expr | None) -> bool | None:
    """True for the types that are safe by themselves; None when the type says nothing."""
    if annotation is None:
        return None
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    inner = names - {"list", "tuple", "Sequence", "Iterable", "Iterator", "None", "Ellipsis"}
    return True if inner and inner <= CONTENT | NUMBERS else None


def _is_numeric(spec: ast.expr | None) -> bool:
    """Only a number can be written by this format."""
    said = "".join(part.value for part in spec.values if isinstance(part, ast.Constant)
                   and isinstance(part.value, str)) if isinstance(spec, ast.JoinedStr) else ""
    return bool(said) and (said[-1] in "fFeEgGdnxXb%" or "," in said)


def _bound(function: FunctionNode, call: ast.Call, given: _Scope) -> dict[str, bool]:
    """Which parameters get something safe."""
    names = [argument.arg for argument in _parameters(function)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    defaults = [*function.args.defaults, *(value for value in function.args.kw_defaults if value is not None)]
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return {}
    bound = {name: given.is_safe(value) for name, value in zip(names, call.args)}
    bound |= {word.arg: given.is_safe(word.value) for word in call.keywords if word.arg is not None}
    left_out = [name for name in names if name not in bound]
    safe = all(isinstance(value, ast.Constant) for value in defaults)
    return bound | {name: safe for name in left_out}


def _own(function: FunctionNode) -> Iterator[ast.AST]:
    """The parts of a function without those of the functions inside of it."""
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, FunctionNode | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))


def _with_functions(tree: ast.AST, function: FunctionNode | None = None,
                    ) -> Iterator[tuple[FunctionNode | None, ast.AST]]:
    """Every node with the function it stands in."""
    for node in ast.iter_child_nodes(tree):
        own = node if isinstance(node, FunctionNode) else function
        yield function, node
        yield from _with_functions(node, own)
