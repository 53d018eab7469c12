"""YAML files read strictly: what YAML would settle silently, or reads otherwise than a person does, is refused by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from runbook.errors import UsageError

DEEPEST = 20
MOST_DIGITS = 18
INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, numbers in other notations than the decimal one, aliases and deep nesting.

    Dates stay text, as papermill reads them.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, f"*{event.anchor} is an alias. Write the value itself")
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(event, f"values are nested deeper than {DEEPEST} levels. Write them flatter")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping whose keys all stand once."""
        first: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if key.tag.endswith(":merge"):
                raise _refused(key, "<< merges one mapping into another. Write the values themselves")
            if name in first:
                where = f"the first time in line {first[name]}"
                raise _refused(key, f"'{name}' stands here again, {where}. Keep one of the two, YAML takes the last")
            first[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number written in decimals."""
        text = str(node.value)
        if len(text) > MOST_DIGITS + 1:
            raise _refused(
                node, f"{text[:MOST_DIGITS]}... has {len(text)} digits. Write at most {MOST_DIGITS}, or quote it"
            )
        number = int(super().construct_yaml_int(node))
        if not INT.fullmatch(text):
            raise _refused(node, f"YAML reads {text} as {number}. Write {number} when that is meant, or quote a text")
        return number

    def construct_yaml_float(self, node: Any) -> float:
        """Return a number written in decimals."""
        number = float(super().construct_yaml_float(node))
        if not FLOAT.fullmatch(str(node.value)):
            raise _refused(
                node, f"YAML reads {node.value} as {number}. Write {number} when that is meant, or quote a text"
            )
        return number


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)


def load(text: str) -> Any:
    """Return what one YAML document says; raises yaml.YAMLError, which ``sentence`` words."""
    loader = Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read(path: Path, refusal: type[UsageError]) -> Any:
    """Return what a YAML file says; raises ``refusal`` with file, line and remedy when it cannot be read."""
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise refusal(f"{path} is a folder, expected a YAML file. Name the file in it.") from None
    except OSError as error:
        raise refusal(f"{path} cannot be read: {error.strerror}. Expected a YAML file that you may read.") from None
    try:
        return load(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refusal(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, so the file is in another encoding. "
            f"Save it as UTF-8, for example with: iconv -f latin1 -t utf-8"
        ) from None
    except yaml.YAMLError as error:
        raise refusal(f"{path}, {sentence(error)}") from None


def sentence(error: yaml.YAMLError) -> str:
    """Return what is wrong, and in which line, as one sentence."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}" if mark else "somewhere"
    if isinstance(error, Refused):
        return f"{where}: {error.problem}."
    said = getattr(error, "problem", None) or str(error).replace("\n", " ")
    return f"{where}: this is not YAML ({said}). Expected 'key: value' lines, with texts in quotes."


class Refused(yaml.constructor.ConstructorError):
    """YAML that is valid and refused all the same."""


def _refused(at: Any, problem: str) -> Refused:
    return Refused(None, None, problem, at.start_mark)
