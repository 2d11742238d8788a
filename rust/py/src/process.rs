//! The process around the devices, as the interpreter sees it.

use crate::error;
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use wgengine_io::process;

static TOLD: PyOnceLock<()> = PyOnceLock::new();

/// From now on, a child that Python forks lets go of all devices' descriptors before it runs anything else.
pub fn tell_us_of_forks(py: Python<'_>) -> PyResult<()> {
    TOLD.get_or_try_init(py, || {
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", wrap_pyfunction!(forked, py)?)?;
        py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
    })
    .copied()
}

#[pyfunction]
fn forked() -> PyResult<()> {
    process::forked().map_err(|e| error::os(&e, "letting go of the parent's descriptors"))
}

/// Classes of ours are one process's, not one interpreter's. Python 3.12 and later refuse this by themselves.
pub fn refuse_other_interpreters(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: this thread is attached to an interpreter, whose state outlives the call.
    match unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } {
        0 => Ok(()),
        _ => Err(PyImportError::new_err(
            "wgengine does not support subinterpreters; import it in the main interpreter, or in a process of its own",
        )),
    }
}

/// Writes no core file of this process and lets nobody but root look into its memory. For programs of our own: a library
/// does not decide that for its host. Raises OSError.
#[pyfunction]
pub fn keep_secret() -> PyResult<()> {
    process::keep_secret().map_err(|e| error::os(&e, "keeping keys out of core files"))
}
