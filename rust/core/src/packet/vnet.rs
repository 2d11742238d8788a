//! The header in front of every packet on a TUN with `IFF_VNET_HDR`: `struct virtio_net_hdr`, native byte order.
//!
//! It says whether the transport checksum is still to be completed, and whether the packet is a super-packet that
//! stands for several packets of `gso_size` payload bytes each (linux/virtio_net.h).

/// The header's length in bytes.
pub const LEN: usize = 10;

/// The transport checksum holds the pseudo-header's sum only; `csum_start` and `csum_offset` say where to complete it.
pub const F_NEEDS_CSUM: u8 = 1;
/// The checksum was found to be right.
pub const F_DATA_VALID: u8 = 2;

/// One packet, no super-packet.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// UDP to be cut into IP fragments (UFO). We never offer it.
pub const GSO_UDP: u8 = 3;
/// TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// UDP to be cut into datagrams (USO), over IPv4 or IPv6.
pub const GSO_UDP_L4: u8 = 5;
/// A bit beside the type: the first TCP segment carries CWR.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr`. Its default is ten zero bytes: one packet, complete as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    pub flags: u8,
    pub gso_type: u8,
    /// The headers' length as the kernel believes it; a hint, not to be trusted.
    pub hdr_len: u16,
    /// Payload bytes of each packet but the last.
    pub gso_size: u16,
    /// Where the checksummed bytes start, counted from the packet's first byte.
    pub csum_start: u16,
    /// Where the checksum lies, counted from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// The header at the start of `bytes`; `None` when they are too few.
    pub fn read(bytes: &[u8]) -> Option<VnetHeader> {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes.first_chunk::<LEN>()?;
        Some(VnetHeader {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The header's ten bytes.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Writes the header to the start of `bytes`; `None`, and nothing written, when they are too few.
    pub fn write(&self, bytes: &mut [u8]) -> Option<()> {
        *bytes.first_chunk_mut::<LEN>()? = self.to_bytes();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_kernel_has_them() {
        let header = VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: GSO_TCPV6 | GSO_ECN,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
        };
        let mut bytes = [0u8; 12];
        assert_eq!(header.write(&mut bytes), Some(()));
        assert_eq!(bytes[..2], [1, 0x84]);
        for (at, value) in [(2, 0x0102u16), (4, 0x0304), (6, 0x0506), (8, 0x0708)] {
            assert_eq!(bytes[at..at + 2], value.to_ne_bytes());
        }
        assert_eq!(bytes[10..], [0, 0]);
        assert_eq!(VnetHeader::read(&bytes), Some(header));
    }

    #[test]
    fn too_few_bytes_are_refused() {
        let mut nine = [7u8; 9];
        assert_eq!(VnetHeader::read(&nine), None);
        assert_eq!(VnetHeader::default().write(&mut nine), None);
        assert_eq!(nine, [7; 9]);
    }
}
