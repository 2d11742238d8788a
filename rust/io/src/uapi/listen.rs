//! Makes the socket file: mode 0600, in a directory that everybody may list, never over a living instance.

use super::file::SocketFile;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Where `wg` looks for sockets.
pub const DIRECTORY: &str = "/var/run/wireguard";

/// An interface name has at most 15 bytes.
const NAME_MAX: usize = 15;

/// Connections that wait to be accepted. The kernel bounds it by itself; SOMAXCONN is what a C library was built with,
/// and musl's is 128, beyond which a client would hang in connect(2).
const QUEUE: libc::c_int = 4096;

const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The socket file of an interface; an error when the name cannot be an interface's.
pub fn socket_path(name: &str) -> io::Result<PathBuf> {
    path_in(Path::new(DIRECTORY), name)
}

/// Listens for `wg` on the socket file of an interface.
pub fn listen(name: &str) -> io::Result<(UnixListener, PathBuf)> {
    listen_in(Path::new(DIRECTORY), name)
}

/// As [`listen`], in a directory of the caller's. `EADDRINUSE`: another instance serves this name, and is left alone.
pub fn listen_in(directory: &Path, name: &str) -> io::Result<(UnixListener, PathBuf)> {
    let path = path_in(directory, name)?;
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let _lock = lock(directory)?;
    make_way(&path)?;
    let listener = bind_private(&path)?;
    Ok((listener, path))
}

/// Holds the directory against other instances of ours: between two looks at a socket file nobody replaces it.
///
/// Everybody may open the directory, so everybody may hold this lock; whoever keeps it for a second is passed over.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    let directory = File::open(directory)?;
    for _ in 0..LOCK_TRIES {
        match directory.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Ok(()) | Err(TryLockError::Error(_)) => break,
        }
    }
    Ok(directory)
}

fn path_in(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) || name == "." || name == ".." {
        let hint = format!("interface name {name:?}: write 1 to {NAME_MAX} of a-z A-Z 0-9 _ = + . -, as in wg0");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, hint));
    }
    Ok(directory.join(format!("{name}.sock")))
}

/// Takes a dead socket file away. A living one, or a file that is no socket, is left alone.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        // connect(2) to a plain file is refused as by a dead socket; it is not ours to remove.
        Ok(found) if !found.file_type().is_socket() => return Err(io::Error::from_raw_os_error(libc::EEXIST)),
        Ok(_) => {}
    }
    match connect(path).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::ECONNREFUSED)) => fs::remove_file(path),
        Err(Some(libc::ENOENT)) => Ok(()),
        // EAGAIN is a living instance too busy to take us.
        Ok(()) | Err(Some(libc::EAGAIN)) => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
        Err(errno) => Err(errno.map_or_else(|| io::ErrorKind::Other.into(), io::Error::from_raw_os_error)),
    }
}

/// Binds, then restricts, then listens. The mode of a bound file is the umask's business, and the umask is the
/// process's, other threads' too; but nobody gets in before listen(2).
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = unix_socket()?;
    let (address, length) = unix_address(path)?;
    // SAFETY: `address` is a sockaddr_un of which `length` bytes are in use.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    let file = SocketFile::at(path)?;
    let opened = fs::set_permissions(path, Permissions::from_mode(0o600)).and_then(|()| {
        // SAFETY: the descriptor is open; listen takes no pointers.
        check(unsafe { libc::listen(socket.as_raw_fd(), QUEUE) })
    });
    match opened {
        Ok(()) => Ok(UnixListener::from(socket)),
        Err(error) => {
            file.remove_if_ours();
            Err(error)
        }
    }
}

/// Asks whether somebody listens there, without waiting where a queue is full.
fn connect(path: &Path) -> io::Result<()> {
    let socket = unix_socket()?;
    let (address, length) = unix_address(path)?;
    // SAFETY: `address` is a sockaddr_un of which `length` bytes are in use.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

/// A stream socket that does not block and is not inherited.
fn unix_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
    check(fd)?;
    // SAFETY: `fd` was just made and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the descriptor is open; these commands of fcntl take numbers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(socket)
}

fn unix_address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: a sockaddr_un is numbers only, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let path = path.as_os_str().as_bytes();
    // One byte stays for the NUL at the end.
    if path.len() >= address.sun_path.len() || path.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (slot, byte) in address.sun_path.iter_mut().zip(path) {
        *slot = *byte as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
