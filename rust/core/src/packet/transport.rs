//! Where the fields of the TCP and UDP headers lie (RFC 9293, 3.1; RFC 768).

/// Length of a TCP header without options.
pub(super) const TCP_HEADER: usize = 20;
pub(super) const TCP_SEQUENCE: usize = 4;
/// The header's length in 32-bit words, in the upper half of the byte.
pub(super) const TCP_DATA_OFFSET: usize = 12;
pub(super) const TCP_FLAGS: usize = 13;
pub(super) const TCP_CHECKSUM: usize = 16;

/// The two flags that concern the end of what is sent.
pub(super) const FIN_PSH: u8 = 0x01 | 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const ECE: u8 = 0x40;
pub(super) const CWR: u8 = 0x80;

pub(super) const UDP_HEADER: usize = 8;
pub(super) const UDP_LENGTH: usize = 4;
pub(super) const UDP_CHECKSUM: usize = 6;
