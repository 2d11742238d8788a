//! Every reason why a packet dies, once: the same word in code, counter, capture and metric label.

macro_rules! drops {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Drop { $($(#[$doc])* $name,)* }

        impl Drop {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &'static [Drop] = &[$(Drop::$name,)*];

            /// The word that counters, captures and metrics use.
            pub const fn word(self) -> &'static str {
                match self { $(Drop::$name => $word,)* }
            }
        }
    };
}

drops! {
    // Out of the TUN.
    /// Not IP, a length that lies, or a super-packet that cannot be cut.
    MalformedPacket = "malformed_packet",
    /// No peer owns the destination address.
    NoPeer = "no_peer",
    /// The peer has no endpoint yet.
    NoEndpoint = "no_endpoint",
    /// The device has no private key.
    NoPrivateKey = "no_private_key",
    /// The peer's staging queue was full; the oldest packet went.
    StagingFull = "staging_full",
    /// The packets of all peers that wait for handshakes take all the room there is for them.
    StagingBudget = "staging_budget",
    /// So many peers wanted a handshake that this one had no turn in REKEY_ATTEMPT_TIME.
    HandshakeBacklog = "handshake_backlog",
    /// The handshake attempt ended without an answer (whitepaper 6.4).
    HandshakeTimeout = "handshake_timeout",
    /// The peer was removed while packets waited for it.
    PeerRemoved = "peer_removed",
    /// No UDP socket of the endpoint's family.
    NoSocket = "no_socket",
    /// The kernel refused the datagram.
    SendFailed = "send_failed",
    /// A TSMP packet out of the TUN: only the engine itself speaks that.
    HostTsmp = "host_tsmp",
    /// More packets of the engine's own wait than the queue holds.
    InjectionQueueFull = "injection_queue_full",
    // Out of the UDP socket.
    /// The interface is down: nobody is served until it is up.
    LinkDown = "link_down",
    /// Too short, wrong length for its type, or of no known type.
    MalformedMessage = "malformed_message",
    /// mac1 does not fit our public key (whitepaper 5.4.4).
    BadMac = "bad_mac",
    /// More handshake messages wait than the queue holds.
    HandshakeQueueFull = "handshake_queue_full",
    /// Under load: the sender was asked to show by a cookie that it receives there (whitepaper 5.3).
    CookieRequired = "cookie_required",
    /// Under load: more handshakes from one source (IPv6: one /64) than its share.
    SourceLimited = "source_limited",
    /// More initiations from one peer than any use of the protocol needs.
    PeerLimited = "peer_limited",
    /// A valid initiation from a key that is no peer of ours.
    UnknownPeer = "unknown_peer",
    /// No session, or no handshake in progress, has this index.
    UnknownIndex = "unknown_index",
    /// The handshake message does not authenticate.
    BadHandshake = "bad_handshake",
    /// A key in it, or the peer's own, makes every shared secret zero: anyone could read the tunnel.
    LowOrderKey = "low_order_key",
    /// The initiation's timestamp is not newer than the newest one seen (whitepaper 5.1).
    ReplayedInitiation = "replayed_initiation",
    /// The data message does not authenticate.
    BadTag = "bad_tag",
    /// The counter was seen before or lies behind the window (RFC 6479).
    Replayed = "replayed",
    /// The session is older than REJECT_AFTER_TIME, or its counter beyond REJECT_AFTER_MESSAGES (whitepaper 6.2).
    SessionExpired = "session_expired",
    /// The decrypted bytes are no IP packet, or a length in it lies.
    MalformedInner = "malformed_inner",
    /// The inner source address does not belong to the sending peer.
    BadSource = "bad_source",
    /// TSMP of a peer that is too short, a fragment, or of no known type.
    MalformedTsmp = "malformed_tsmp",
    /// TSMP to an address that is not our own.
    ForeignTsmp = "foreign_tsmp",
    /// A pong to no ping that is under way to this peer.
    UnsolicitedPong = "unsolicited_pong",
    /// A reply to an echo request of ours, by a peer that it did not go to.
    ForgedEchoReply = "forged_echo_reply",
    /// More messages about disco keys from one peer than are worth telling.
    AdvertisementLimited = "advertisement_limited",
    /// The kernel refused the packet at the TUN.
    TunWriteFailed = "tun_write_failed",
}

impl Drop {
    pub const COUNT: usize = Drop::ALL.len();
}
