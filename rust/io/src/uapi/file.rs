//! Our socket file: knows it again by device and inode, and tells when somebody removes it.
//!
//! `rm /var/run/wireguard/wg0.sock` is how people, and `wg-quick down`, end a userspace device.

use super::listen::lock;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A socket file as it was when we took it.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    pub fn at(path: &Path) -> io::Result<SocketFile> {
        let found = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_path_buf(), device: found.dev(), inode: found.ino() })
    }

    /// Whether the path still leads to this very file. A path that cannot be looked at counts as still there.
    ///
    /// A file without a name is on its way out: the kernel gives notice of a removal a moment before the path is gone,
    /// and gives it once.
    pub fn is_there(&self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => found.nlink() > 0 && (found.dev(), found.ino()) == (self.device, self.inode),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Removes the file, unless the path leads to something else by now.
    pub fn remove_if_ours(&self) {
        if self.is_there() {
            // It may be gone since; that is as good.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// As [`Self::remove_if_ours`], held against an instance that takes the path over at this moment.
    pub fn remove_locked(&self) {
        let _lock = self.path.parent().map(lock);
        self.remove_if_ours();
    }
}

/// Waits for the removal of a file: by inotify where there is one to be had, else by looking once a second.
#[derive(Debug)]
pub struct Watch {
    file: SocketFile,
    notice: Option<notice::Notice>,
}

impl Watch {
    pub fn new(file: SocketFile) -> Watch {
        let notice = notice::Notice::of(&file.path).ok();
        Watch { file, notice }
    }

    /// A descriptor that becomes readable when something happened to the file; -1, which poll ignores, for none.
    pub fn descriptor(&self) -> RawFd {
        self.notice.as_ref().map_or(-1, notice::Notice::descriptor)
    }

    /// How often to look without being told.
    pub fn period(&self) -> Option<Duration> {
        self.notice.is_none().then_some(Duration::from_secs(1))
    }

    /// Whether the file is gone, or another one is in its place.
    pub fn is_gone(&mut self) -> bool {
        if let Some(notice) = &mut self.notice {
            notice.clear();
        }
        !self.file.is_there()
    }
}

#[cfg(target_os = "linux")]
mod notice {
    use crate::fd::Held;
    use std::ffi::CString;
    use std::fs::File;
    use std::io::{self, Read};
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// An inotify watch on one file.
    #[derive(Debug)]
    pub struct Notice(Held<File>);

    impl Notice {
        pub fn of(path: &Path) -> io::Result<Notice> {
            let path = CString::new(path.as_os_str().as_bytes())?;
            // SAFETY: inotify_init1 takes no pointers.
            let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: `fd` was just made and nobody else owns it.
            let notice = Notice(Held::new(unsafe { File::from_raw_fd(fd) }));
            // Our own socket keeps the inode alive, so its removal shows as a change of the number of links.
            let mask = libc::IN_ATTRIB | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_DONT_FOLLOW;
            // SAFETY: `path` is a string that ends in NUL and outlives the call.
            match unsafe { libc::inotify_add_watch(fd, path.as_ptr(), mask) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(notice),
            }
        }

        pub fn descriptor(&self) -> RawFd {
            self.0.as_raw_fd()
        }

        /// What exactly happened does not matter: whoever asks looks at the file.
        pub fn clear(&mut self) {
            let mut events = [0u8; 4096];
            while matches!(self.0.read(&mut events), Ok(1..)) {}
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod notice {
    use std::io;
    use std::os::fd::RawFd;
    use std::path::Path;

    /// No notices here: a socket file cannot be opened, which kqueue would want.
    #[derive(Debug)]
    pub enum Notice {}

    impl Notice {
        pub fn of(_path: &Path) -> io::Result<Notice> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub fn descriptor(&self) -> RawFd {
            match *self {}
        }

        pub fn clear(&mut self) {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptors for inotify run out in crowded containers; then there is a look every second.
    #[test]
    fn without_notices_a_look_tells() {
        let path = std::env::temp_dir().join(format!("wge-uapi-look-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let mut watch = Watch { file: SocketFile::at(&path).unwrap(), notice: None };
        assert_eq!((watch.descriptor(), watch.period()), (-1, Some(Duration::from_secs(1))));
        assert!(!watch.is_gone());
        fs::remove_file(&path).unwrap();
        assert!(watch.is_gone());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn with_notices_nobody_looks_for_nothing() {
        let path = std::env::temp_dir().join(format!("wge-uapi-notice-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let watch = Watch::new(SocketFile::at(&path).unwrap());
        assert!(watch.descriptor() >= 0 && watch.period().is_none());
        fs::remove_file(&path).unwrap();
    }
}
