//! The PROXY header: what is said of the first bytes stays true when more come, and a header is whole when it is said to be.

use crate::limits::PROXY_HEADER;
use crate::server::proxy_protocol::{ProxyHeader, ProxyPrefix};

/// The first bytes of a connection.
pub fn target(data: &[u8]) {
    let whole = ProxyPrefix::of(data);
    let len = match whole {
        Ok(ProxyPrefix::Complete(ProxyHeader { len, .. })) => len,
        Ok(ProxyPrefix::Incomplete) => data.len() + 1,
        Ok(ProxyPrefix::Absent) | Err(_) => 0,
    };
    assert!(len <= data.len() || whole == Ok(ProxyPrefix::Incomplete));
    assert!(len <= PROXY_HEADER, "one that is incomplete can still become one");
    let mut last = Ok(ProxyPrefix::Incomplete);
    for end in 0..=data.len().min(PROXY_HEADER + 1) {
        let prefix = ProxyPrefix::of(&data[..end]);
        assert!(last == Ok(ProxyPrefix::Incomplete) || prefix == last, "{end}: {last:?}, then {prefix:?}");
        assert!(end >= len || len == 0 || prefix == Ok(ProxyPrefix::Incomplete));
        last = prefix;
    }
    assert!(last == whole || data.len() > PROXY_HEADER + 1);
}
