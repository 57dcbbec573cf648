//! What Python sees: a thin shell over the readers and the consumer, which know nothing of Python.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, BinaryArray, Int64Array, RecordBatch, UInt8Array};
use arrow_data::ArrayData;
use arrow_pyarrow::PyArrowType;
use arrow_schema::{ArrowError, Schema};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::columns::Rows;
use crate::kafka::{self, Failure, Position, Report};
use crate::{avro, binary, guard, json, protobuf};

/// Grows when a caller must change; `k2i_core.native` uses a wheel of exactly its own number.
const INTERFACE: u32 = 3;

/// Rows, which of the values they are, and which values are none for certain.
type Read = (PyArrowType<RecordBatch>, PyArrowType<ArrayData>, PyArrowType<ArrayData>);

fn read(rows: Rows) -> Read {
    let numbers = |numbers: Vec<i64>| PyArrowType(Int64Array::from(numbers).into_data());
    (PyArrowType(rows.rows), numbers(rows.certain), numbers(rows.uncertain))
}

#[pyclass(frozen)]
struct JsonReader {
    reader: json::Reader,
}

#[pymethods]
impl JsonReader {
    /// Raises ValueError for columns that it does not read.
    #[new]
    #[pyo3(signature = (schema, epochs, *, skips_empty))]
    fn new(
        schema: PyArrowType<Schema>,
        epochs: HashMap<String, i64>,
        skips_empty: bool,
    ) -> PyResult<Self> {
        guard::guarded(|| {
            let reader = json::Reader::new(Arc::new(schema.0), epochs, skips_empty);
            Ok(Self { reader: reader.map_err(PyValueError::new_err)? })
        })
    }

    /// Raises an error that says nothing of the values; then nothing is known of any of them.
    fn read(&self, py: Python<'_>, values: PyArrowType<ArrayData>) -> PyResult<Read> {
        guard::detached(py, || {
            let values = BinaryArray::from(values.0);
            self.reader.read(&values).map(read).map_err(arrow_error)
        })
    }
}

#[pyclass(frozen)]
struct RecordReader {
    reader: binary::Reader,
}

impl RecordReader {
    fn new(schema: Schema, plan: impl binary::Plan + 'static) -> Result<Self, String> {
        Ok(Self { reader: binary::Reader::new(Arc::new(schema), Box::new(plan))? })
    }
}

#[pymethods]
impl RecordReader {
    /// Raises an error that says nothing of the records; then nothing is known of any of them.
    fn read(
        &self,
        py: Python<'_>,
        bytes: PyArrowType<ArrayData>,
        starts: PyArrowType<ArrayData>,
        ends: PyArrowType<ArrayData>,
    ) -> PyResult<Read> {
        guard::detached(py, || {
            let bytes = UInt8Array::from(bytes.0);
            let (starts, ends) = (Int64Array::from(starts.0), Int64Array::from(ends.0));
            let rows = self.reader.read(bytes.values(), starts.values(), ends.values());
            rows.map(read).map_err(arrow_error)
        })
    }
}

/// Raises ValueError for columns or types that it does not read.
#[pyfunction]
fn avro_reader(schema: PyArrowType<Schema>, plan: avro::Plan) -> PyResult<RecordReader> {
    guard::guarded(|| {
        let reader = avro::Record::new(plan).and_then(|plan| RecordReader::new(schema.0, plan));
        reader.map_err(PyValueError::new_err)
    })
}

/// Raises ValueError for columns or types that it does not read.
#[pyfunction]
fn protobuf_reader(
    schema: PyArrowType<Schema>,
    fields: Vec<protobuf::Plan>,
    frame: Vec<u8>,
) -> PyResult<RecordReader> {
    guard::guarded(|| {
        let plan = protobuf::Record::new(fields, frame);
        plan.and_then(|plan| RecordReader::new(schema.0, plan)).map_err(PyValueError::new_err)
    })
}

/// An error code of librdkafka and its text.
type Code = (i32, String);

/// Rows, bytes, records with unreadable headers, next offsets, ends, passing errors, and the error
/// that stops, with the topic and the Kafka partition that it is about.
type Taken = (
    Option<PyArrowType<RecordBatch>>,
    usize,
    usize,
    Vec<Position>,
    Vec<Position>,
    Vec<Code>,
    Option<(Code, Option<String>, i32)>,
);

#[pyclass(frozen)]
struct Consumer {
    /// None once it is closed.
    consumer: Mutex<Option<kafka::Consumer>>,
}

#[pymethods]
impl Consumer {
    /// Raises ValueError with an error code of librdkafka and its text.
    #[new]
    fn new(
        py: Python<'_>,
        library: &str,
        properties: Vec<(String, String)>,
        positions: Vec<Position>,
        passing_codes: HashSet<i32>,
        schema: PyArrowType<Schema>,
    ) -> PyResult<Self> {
        guard::detached(py, || {
            let schema = Arc::new(schema.0);
            kafka::Consumer::new(library, &properties, &positions, passing_codes, schema)
                .map(|consumer| Self { consumer: Mutex::new(Some(consumer)) })
                .map_err(|failure| PyValueError::new_err(code(failure)))
        })
    }

    /// Adds up to `count` messages to those that wait to be taken, and returns how many came.
    fn fetch(&self, py: Python<'_>, count: usize, timeout_ms: i32) -> PyResult<usize> {
        self.with(py, |consumer| Ok(consumer.fetch(count, timeout_ms)))
    }

    fn take(&self, py: Python<'_>) -> PyResult<Taken> {
        self.with(py, |consumer| {
            let taken = consumer.take().map_err(arrow_error)?;
            Ok((
                taken.rows.map(PyArrowType),
                taken.byte_count,
                taken.unreadable_header_count,
                taken.next_offsets,
                taken.ends,
                taken.passing.into_iter().map(code).collect(),
                taken.stop.map(|stop| (code(stop.failure), stop.topic, stop.partition)),
            ))
        })
    }

    /// Errors (code, text, whether fatal) and log lines (level, facility, client, line).
    #[allow(clippy::type_complexity)]
    fn take_reports(
        &self,
        py: Python<'_>,
    ) -> PyResult<(Vec<(i32, String, bool)>, Vec<(i32, String, String, String)>)> {
        self.with(py, |consumer| {
            let (mut errors, mut lines) = (Vec::new(), Vec::new());
            for report in consumer.take_reports() {
                match report {
                    Report::Error { failure, is_fatal } => {
                        errors.push((failure.code, failure.reason, is_fatal));
                    }
                    Report::Log { level, facility, client, line } => {
                        lines.push((level, facility, client, line));
                    }
                }
            }
            Ok((errors, lines))
        })
    }

    fn watermarks(&self, py: Python<'_>, topic: &str, partition: i32) -> PyResult<Option<(i64, i64)>> {
        self.with(py, |consumer| Ok(consumer.watermarks(topic, partition)))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guard::detached(py, || {
            drop(self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        })
    }
}

impl Consumer {
    /// Runs `work` without the interpreter's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut kafka::Consumer) -> PyResult<T> + Send,
    ) -> PyResult<T> {
        guard::detached(py, || {
            let mut consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
            let closed = || PyRuntimeError::new_err("the consumer is closed");
            work(consumer.as_mut().ok_or_else(closed)?)
        })
    }
}

fn arrow_error(error: ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn code(failure: Failure) -> Code {
    (failure.code, failure.reason)
}

/// Panics, so that a test can see what becomes of it.
#[pyfunction]
fn panic() -> PyResult<()> {
    guard::guarded(|| panic!("a secret"))
}

#[pymodule]
fn k2i_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    guard::install();
    module.add("INTERFACE", INTERFACE)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<JsonReader>()?;
    module.add_class::<Consumer>()?;
    module.add_function(wrap_pyfunction!(avro_reader, module)?)?;
    module.add_function(wrap_pyfunction!(protobuf_reader, module)?)?;
    module.add_function(wrap_pyfunction!(panic, module)?)?;
    Ok(())
}
