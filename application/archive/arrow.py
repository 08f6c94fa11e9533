"""pyarrow, a part of the extra `archive`. It has no type hints: this is the only module that imports it."""

from importlib import import_module
from typing import Any

pa: Any = import_module("pyarrow")
compute: Any = import_module("pyarrow.compute")
json: Any = import_module("pyarrow.json")
parquet: Any = import_module("pyarrow.parquet")
