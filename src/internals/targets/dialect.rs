//! A request that moves to an instance of the other dialect is the request that dialect would have got, and comes back to
//! the same bytes.

use bytes::Bytes;

use super::input::Input;
use crate::limits::Limits;
use crate::wire::dialect::Dialect;
use crate::wire::header::HeaderView;
use crate::wire::rewrite::{Origin, forward, translate};

/// Account and channel id the gateway knows, and then the header a client sent.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let origin = Origin { account: input.text(), channel_id: input.text(), app: "x_im", gate_id: "gate01" };
    let Ok(view) = HeaderView::scan(input.rest(), &Limits::default().header()) else { return };
    for (from, to) in [(Dialect::XIm, Dialect::Kim), (Dialect::Kim, Dialect::XIm)] {
        let body = Bytes::from_static(b"hello");
        let sent = forward(&view, from, &origin, body.clone());
        let there = translate(&sent, to).expect("what forward writes can be read");
        assert_eq!(there, forward(&view, to, &origin, body));
        let back = translate(&there, from).expect("what translate writes can be read");
        assert_eq!(back, sent);
        assert_eq!(translate(&sent, from).expect("what forward writes can be read"), sent);
    }
}
