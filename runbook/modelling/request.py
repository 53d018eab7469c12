"""Loads deployment/request.py and deployment/decode.py, which are shipped and therefore lie outside this package."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runbook import paths
from runbook.errors import UsageError
from runbook.modelling.description import place_of_error, shown

if TYPE_CHECKING:
    from decode import Field


def _load(name: str) -> ModuleType:
    path = paths.DEPLOYMENT / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be loaded as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # decode.py imports request, and msgspec looks annotations up there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UsageError(f"{shown(path)}:{error.lineno}: {error.msg}. Mend that line first.") from error
    except Exception as error:  # the file is a person's own code, which may raise anything
        where = place_of_error(path, error)
        raise UsageError(f"{where}: {type(error).__name__}: {error}. Mend that line first.") from error
    return module


_request = _load("request")
_decode = _load("decode")

FIELDS: tuple[str, ...] = _decode.FIELDS
# In the order of the fields, however the file writes it: other modules read its values as a row.
EXAMPLE: dict[str, float | None] = {name: _request.EXAMPLE[name] for name in FIELDS if name in _request.EXAMPLE}
EXAMPLE |= _request.EXAMPLE
MAX_ROWS: int = _decode.MAX_ROWS
MAX_BYTES: int = _decode.MAX_BYTES

ContractError: type[Any] = _decode.ContractError
decode: Any = _decode.decode
validated: Any = _decode.validated


def field(name: str) -> Field:
    """Return the facts about the field ``name``; raises UsageError when its range or meaning is not given."""
    try:
        found: Field = _decode.field(name)
    except TypeError as error:
        raise UsageError(str(error)) from None
    return found


def fields() -> list[Field]:
    """Return the facts about every field, in the order of the model's inputs."""
    return [field(name) for name in FIELDS]
