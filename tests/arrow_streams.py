"""Records of Arrow IPC as a producer writes them."""

import pyarrow as pa
from pyarrow import ipc


def stream(**columns: pa.Array) -> bytes:
    rows = pa.record_batch(list(columns.values()), names=list(columns))
    output = pa.BufferOutputStream()
    with ipc.new_stream(output, rows.schema) as writer:
        writer.write_batch(rows)
    return output.getvalue().to_pybytes()
