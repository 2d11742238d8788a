//! What a data thread has a handshake message prove before it troubles the control thread: cheap checks, so that a flood
//! of anything else costs no queue, no wake-up and no lock of a peer.

use crate::shared::Shared;
use wgengine_core::observe::drop::Drop;
use wgengine_core::tunnel::admission::has_mac2;
use wgengine_core::tunnel::endpoint::Endpoint;
use wgengine_core::wire::wireguard::{receiver, Message};

/// An initiation or response shows by mac1 that its sender knows our public key (whitepaper 5.4.4); a response or cookie
/// reply names an index of ours.
pub fn hand_in(message: Message<'_>, datagram: &[u8], from: Endpoint, shared: &Shared) -> Result<(), Drop> {
    if !shared.is_up() {
        return Err(Drop::LinkDown);
    }
    let keys = shared.keys().ok_or(Drop::NoPrivateKey)?;
    let index = receiver(message);
    if index.is_some_and(|index| !shared.table.knows_index(index)) {
        return Err(Drop::UnknownIndex);
    }
    // Asked first: what comes without a cookie while there is none to be had is the bulk of a flood.
    let is_bare = matches!(message, Message::Initiation(_)) && !has_mac2(datagram);
    if is_bare && shared.inbox.is_closed() && !shared.familiar.knows(from.address) {
        return Err(Drop::CookieRequired);
    }
    let has_mac1 = matches!(message, Message::Initiation(_) | Message::Response(_));
    if has_mac1 && !keys.admission.mac1_fits(datagram) {
        return Err(Drop::BadMac);
    }
    match index {
        None => shared.inbox.initiation(datagram, from),
        Some(_) => shared.inbox.answer(datagram, from),
    }
}
