"""How are items written? As JSON lines, or as Parquet where pyarrow is there. The same items give the same bytes."""

import hashlib
import io
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from chatproxy.datasets.rows import Row
from chatproxy.errors import ConfigurationError

_ROW_GROUP = 1000


class Form(StrEnum):
    """The form of a dataset's files; also how their names end."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def content_hash(row: Row) -> str:
    """Return the SHA-256 of an item, in either form: of its JSON, members as ``Row`` has them."""
    return hashlib.sha256(msgspec.json.encode(row)).hexdigest()


def write_rows(rows: Sequence[Row], form: Form) -> bytes:
    """Return a file. Raises ConfigurationError where what it needs is not installed."""
    if form is Form.JSONL:
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    arrow, parquet = require_parquet()
    table = arrow.Table.from_pylist([msgspec.to_builtins(row) for row in rows], schema=_schema(arrow))
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)
    return file.getvalue()


def read_rows(file: bytes, form: Form) -> list[Row]:
    """Undo ``write_rows``. Raises ValueError where it is no such file, ConfigurationError as above."""
    if form is Form.JSONL:
        return [msgspec.json.decode(line, type=Row) for line in file.splitlines()]
    arrow, parquet = require_parquet()
    try:
        found = parquet.read_table(io.BytesIO(file)).to_pylist()
    except arrow.ArrowException:
        raise ValueError("is no Parquet file") from None
    return [msgspec.convert(row, Row) for row in found]


def require_parquet() -> tuple[Any, Any]:
    """Return pyarrow. Raises ConfigurationError where it is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and large
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow, which is not installed: pip install 'chatproxy[parquet]', or use --format jsonl"
        ) from None
    return pa, pq


def _schema(arrow: Any) -> Any:
    text = arrow.string()
    call = arrow.struct(
        [
            ("id", text),
            ("type", text),
            ("function", arrow.struct([("name", text), ("arguments", text)])),
        ]
    )
    message = arrow.struct(
        [
            ("role", text),
            ("content", text),
            ("reasoning_content", text),
            ("tool_calls", arrow.list_(call)),
            ("tool_call_id", text),
        ]
    )
    return arrow.schema(
        [
            ("id", text),
            ("person", text),
            ("conversation", text),
            ("after", text),
            ("choice", arrow.int64()),
            ("day", arrow.int64()),
            ("surface", text),
            ("model", text),
            ("end", text),
            ("messages", arrow.list_(message)),
            ("left_out", arrow.list_(text)),
        ]
    )
