//! No panic crosses into Python: it becomes an exception like any other, and says where it was.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

thread_local! {
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Keeps the place of each panic and prints nothing: its message could quote a record.
pub fn install() {
    set_hook(Box::new(|info| {
        PLACE.set(info.location().map(|place| format!("{}:{}", place.file(), place.line())));
    }));
}

/// Runs `work` without the interpreter's lock, `guarded`.
pub fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> PyResult<T> + Send,
) -> PyResult<T> {
    py.detach(|| guarded(work))
}

/// Runs `work`, and turns a panic in it into a `RuntimeError`.
pub fn guarded<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // Safe because whatever was half done is dropped with the panic: no caller keeps any of it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let place = PLACE.take().unwrap_or_default();
        Err(PyRuntimeError::new_err(format!("panicked at {place}")))
    })
}
