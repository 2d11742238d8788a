//! Keys: private ones stay in memory of ours, are never shown, and compare in constant time.

use crate::error::ConfigError;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use wgengine_core::plan::{self, Secret};
use wgengine_noise as noise;
use zeroize::Zeroizing;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// 44 characters for 32 bytes. The alphabet is searched without branches on secret bits.
fn to_base64(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(44);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            if n <= three.len() {
                text.push(char::from(pick((word >> (18 - 6 * n)) as u8 & 63)));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// The n-th character, reading the whole alphabet whatever n is.
fn pick(n: u8) -> u8 {
    BASE64.iter().zip(0u8..).fold(0, |found, (c, at)| found | (c & (0u8.wrapping_sub(u8::from(at == n)))))
}

/// Why a text is no key; never the text itself.
fn from_base64(text: &str, what: &str) -> PyResult<[u8; 32]> {
    let text = text.trim();
    let refuse = |why: &str| {
        Err(ConfigError::new_err(format!("{what}: {why}; a key is 32 bytes in base64, 44 characters ending in '='")))
    };
    if text.len() != 44 {
        return refuse(&format!("{} characters", text.chars().count()));
    }
    let Some(digits) = text.strip_suffix('=') else { return refuse("no '=' at the end") };
    let mut bytes = Zeroizing::new([0u8; 33]);
    let (mut word, mut bits, mut at) = (0u32, 0, 0);
    for c in digits.bytes() {
        let Some(value) = BASE64.iter().position(|known| *known == c) else {
            return refuse("a character outside base64");
        };
        word = word << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes[at] = (word >> bits) as u8;
            at += 1;
        }
    }
    if word & ((1 << bits) - 1) != 0 {
        return refuse("the last character has bits that stand for nothing");
    }
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[..32]);
    Ok(key)
}

fn to_hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

fn from_hex(text: &str, what: &str) -> PyResult<[u8; 32]> {
    let digits: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.trim().bytes().filter_map(|c| (c as char).to_digit(16).map(|d| d as u8)).collect());
    if digits.len() != 64 || text.trim().len() != 64 {
        return Err(ConfigError::new_err(format!("{what}: a key in hex is 64 digits 0-9 and a-f")));
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(key)
}

fn read_file(py: Python<'_>, path: PathBuf) -> PyResult<Zeroizing<String>> {
    let text = py.detach(|| std::fs::read_to_string(&path));
    text.map(Zeroizing::new).map_err(|error| crate::error::os(&error, &path.display().to_string()))
}

fn refuse_copy(name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{name} is secret: it is neither pickled nor copied; use to_base64() where you mean to store it"
    ))
}

/// A Curve25519 public key. Hashable, ordered by its bytes; `str()` is base64.
#[pyclass(frozen, from_py_object, module = "wgengine._native", eq, ord, hash)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub plan::PublicKey);

#[pymethods]
#[allow(clippy::wrong_self_convention)] // Python objects are shared
impl PublicKey {
    /// Raises ConfigError when `text` is not 32 bytes in base64.
    #[staticmethod]
    fn from_base64(text: &str) -> PyResult<PublicKey> {
        from_base64(text, "public key").map(|key| PublicKey(plan::PublicKey(key)))
    }

    /// Raises ConfigError when `text` is not 64 hex digits.
    #[staticmethod]
    fn from_hex(text: &str) -> PyResult<PublicKey> {
        from_hex(text, "public key").map(|key| PublicKey(plan::PublicKey(key)))
    }

    /// Raises ConfigError when `data` is not 32 bytes long.
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<PublicKey> {
        let key = data
            .try_into()
            .map_err(|_| ConfigError::new_err(format!("public key: {} bytes; a key has 32", data.len())))?;
        Ok(PublicKey(plan::PublicKey(key)))
    }

    fn to_base64(&self) -> String {
        to_base64(&self.0 .0)
    }

    fn to_hex(&self) -> String {
        to_hex(&self.0 .0)
    }

    /// Whether every shared secret with this key would be zero; such a key is no peer's.
    fn is_low_order(&self) -> bool {
        noise::is_low_order(&self.0 .0)
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0 .0)
    }

    fn __str__(&self) -> String {
        self.to_base64()
    }

    fn __repr__(&self) -> String {
        format!("PublicKey('{}')", self.to_base64())
    }

    fn __copy__(&self) -> PublicKey {
        *self
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> PublicKey {
        *self
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        Ok((py.get_type::<PublicKey>().getattr("from_bytes")?, (self.__bytes__(py),)))
    }
}

/// A Curve25519 private key, clamped. Only `to_base64` and `to_hex` give the secret away; `str` and `repr` show the public key.
#[pyclass(frozen, from_py_object, module = "wgengine._native")]
#[derive(Clone)]
pub struct PrivateKey {
    pub secret: Secret,
    public: plan::PublicKey,
}

impl PrivateKey {
    pub fn from_secret(secret: Secret) -> PrivateKey {
        let secret = noise::clamp(secret);
        let public = noise::public_of(&secret);
        PrivateKey { secret, public }
    }
}

#[pymethods]
impl PrivateKey {
    /// A new random key.
    #[staticmethod]
    fn generate() -> PrivateKey {
        PrivateKey::from_secret(noise::generate_private())
    }

    /// Raises ConfigError when `text` is not 32 bytes in base64.
    #[staticmethod]
    fn from_base64(text: &str) -> PyResult<PrivateKey> {
        from_base64(text, "private key").map(|key| PrivateKey::from_secret(Secret(key)))
    }

    /// Raises ConfigError when `text` is not 64 hex digits.
    #[staticmethod]
    fn from_hex(text: &str) -> PyResult<PrivateKey> {
        from_hex(text, "private key").map(|key| PrivateKey::from_secret(Secret(key)))
    }

    /// The key in a file, in base64. Raises OSError or ConfigError.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<PrivateKey> {
        PrivateKey::from_base64(&read_file(py, path)?)
    }

    #[getter]
    fn public_key(&self) -> PublicKey {
        PublicKey(self.public)
    }

    fn to_base64(&self) -> String {
        to_base64(&self.secret.0)
    }

    fn to_hex(&self) -> String {
        to_hex(&self.secret.0)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PrivateKey>().is_ok_and(|other| self.secret.same(&other.get().secret))
    }

    fn __hash__(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.public.0[..8]);
        u64::from_le_bytes(first)
    }

    fn __repr__(&self) -> String {
        format!("PrivateKey(public={})", to_base64(&self.public.0))
    }

    /// The same object: a copy would be a second place to wipe.
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(refuse_copy("PrivateKey"))
    }
}

/// A pre-shared key. Only `to_base64` and `to_hex` give the secret away.
#[pyclass(frozen, from_py_object, module = "wgengine._native")]
#[derive(Clone)]
pub struct PresharedKey(pub Secret);

#[pymethods]
impl PresharedKey {
    /// A new random key.
    #[staticmethod]
    fn generate() -> PresharedKey {
        PresharedKey(noise::generate_psk())
    }

    /// Raises ConfigError when `text` is not 32 bytes in base64.
    #[staticmethod]
    fn from_base64(text: &str) -> PyResult<PresharedKey> {
        from_base64(text, "pre-shared key").map(|key| PresharedKey(Secret(key)))
    }

    /// Raises ConfigError when `text` is not 64 hex digits.
    #[staticmethod]
    fn from_hex(text: &str) -> PyResult<PresharedKey> {
        from_hex(text, "pre-shared key").map(|key| PresharedKey(Secret(key)))
    }

    /// The key in a file, in base64. Raises OSError or ConfigError.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<PresharedKey> {
        PresharedKey::from_base64(&read_file(py, path)?)
    }

    /// All zero: WireGuard takes it as no pre-shared key.
    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    fn to_base64(&self) -> String {
        to_base64(&self.0 .0)
    }

    fn to_hex(&self) -> String {
        to_hex(&self.0 .0)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PresharedKey>().is_ok_and(|other| self.0.same(&other.get().0))
    }

    /// Nothing of the key: all hash alike, so that a hash tells nothing.
    fn __hash__(&self) -> u64 {
        0
    }

    fn __repr__(&self) -> &'static str {
        "PresharedKey(hidden)"
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(refuse_copy("PresharedKey"))
    }
}
