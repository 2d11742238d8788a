//! `wgengine._native`: conversions and errors between Python and the Rust crates, no logic.
//!
//! No Python object is held by a data thread; every call that can block lets other Python threads run.

mod allocator;
mod device;
mod error;
mod events;
mod keys;
mod plan;
mod process;
mod state;

/// The engine's native half. Private: import `wgengine` instead.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        super::process::refuse_other_interpreters(module.py())
    }

    #[pymodule_export]
    use super::device::Device;
    #[pymodule_export]
    use super::keys::{PresharedKey, PrivateKey, PublicKey};
    #[pymodule_export]
    use super::plan::{PeerPlan, Plan};
    #[pymodule_export]
    use super::process::keep_secret;
    #[pymodule_export]
    use super::state::{DeviceState, PeerState};

    /// The version of the native module, equal to the package's.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const version: &str = env!("CARGO_PKG_VERSION");
}
