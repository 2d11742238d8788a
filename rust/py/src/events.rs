//! Events on their way up: a word and fields for each.

use crate::keys::PublicKey;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wgengine_core::observe::event::{Event, PingKind, Traffic};
use wgengine_core::plan;

/// The kind of an event; its fields go into `fields`.
pub fn describe(event: &Event, fields: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    let peer = |key: &plan::PublicKey| fields.set_item("peer", PublicKey(*key));
    Ok(match event {
        Event::SessionUp { peer: key, initiator } => {
            peer(key)?;
            fields.set_item("initiator", initiator)?;
            "session_up"
        }
        Event::HandshakeUnanswered { peer: key } => {
            peer(key)?;
            "handshake_unanswered"
        }
        Event::HandshakeFailed { peer: key } => {
            peer(key)?;
            "handshake_failed"
        }
        Event::EndpointChanged { peer: key, endpoint } => {
            peer(key)?;
            fields.set_item("endpoint", endpoint.to_string())?;
            "endpoint_changed"
        }
        Event::PathTooSmall { peer: key, endpoint } => {
            peer(key)?;
            fields.set_item("endpoint", endpoint.to_string())?;
            "path_too_small"
        }
        Event::PeerWoke { peer: key, by } => {
            peer(key)?;
            let by = match by {
                Traffic::Sent => "sent",
                Traffic::Received => "received",
            };
            fields.set_item("by", by)?;
            "peer_woke"
        }
        Event::Pong { token, peer: key, kind, latency, peer_api_port } => {
            peer(key)?;
            let kind = match kind {
                PingKind::Tsmp => "tsmp",
                PingKind::Icmp => "icmp",
            };
            fields.set_item("token", token)?;
            fields.set_item("kind", kind)?;
            fields.set_item("latency", latency.as_secs_f64())?;
            fields.set_item("peer_api_port", (*peer_api_port > 0).then_some(peer_api_port))?;
            "pong"
        }
        Event::PingExpired { token } => {
            fields.set_item("token", token)?;
            "ping_expired"
        }
        Event::DiscoKeyAdvertised { peer: key, source, key: disco } => {
            peer(key)?;
            fields.set_item("source", source.to_string())?;
            fields.set_item("key", PublicKey(plan::PublicKey(*disco)))?;
            "disco_key_advertised"
        }
        Event::OffloadOff { offload, errno } => {
            fields.set_item("offload", offload)?;
            fields.set_item("errno", errno)?;
            "offload_off"
        }
        Event::ConfigChanged => "config_changed",
        Event::UapiRefused { line, text } => {
            fields.set_item("line", line)?;
            fields.set_item("text", text)?;
            "uapi_refused"
        }
        Event::LinkChanged { up, mtu } => {
            fields.set_item("up", up)?;
            fields.set_item("mtu", mtu)?;
            "link_changed"
        }
        Event::TunLost => "tun_lost",
        Event::UapiRemoved => "uapi_removed",
        Event::Failed { reason } => {
            fields.set_item("reason", reason)?;
            "failed"
        }
    })
}
