use crate::fd::{nonblocking, Held};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

/// Readable from [`Wake::wake`] until [`Wake::clear`].
#[derive(Debug)]
pub struct Wake {
    reader: Held<PipeReader>,
    writer: Held<PipeWriter>,
}

impl Wake {
    pub fn new() -> io::Result<Wake> {
        let (reader, writer) = io::pipe()?;
        nonblocking(&reader)?;
        nonblocking(&writer)?;
        Ok(Wake { reader: Held::new(reader), writer: Held::new(writer) })
    }

    pub fn wake(&self) {
        // A full pipe is readable already, which is all that is wanted.
        let _ = (&*self.writer).write(&[1]);
    }

    pub fn clear(&self) {
        let mut wakes = [0u8; 512];
        while (&*self.reader).read(&mut wakes).is_ok_and(|n| n == wakes.len()) {}
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}
