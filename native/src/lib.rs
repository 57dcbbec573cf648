//! `k2i_native`: what `k2i_core.native` finds when the wheel is installed.
//!
//! No rule lives here that Python has not: see `README.md`.

mod guard;
pub mod json;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, BinaryArray, Int64Array, RecordBatch};
use arrow_data::ArrayData;
use arrow_pyarrow::PyArrowType;
use arrow_schema::{ArrowError, Schema};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Grows when a caller must change; `k2i_core.native` uses a wheel of exactly its own number.
const INTERFACE: u32 = 1;

/// Rows, which of the values they are, and which values are none for certain.
type Read = (PyArrowType<RecordBatch>, PyArrowType<ArrayData>, PyArrowType<ArrayData>);

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
        py.detach(|| {
            guard::guarded(|| {
                let values = BinaryArray::from(values.0);
                let read = self.reader.read(&values).map_err(arrow_error)?;
                let numbers = |numbers: Vec<i64>| PyArrowType(Int64Array::from(numbers).into_data());
                Ok((PyArrowType(read.rows), numbers(read.certain), numbers(read.uncertain)))
            })
        })
    }
}

fn arrow_error(error: ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
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
    module.add_function(wrap_pyfunction!(panic, module)?)?;
    Ok(())
}
