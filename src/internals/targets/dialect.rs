//! A request that moves to an instance of the other dialect is the request that dialect would have got, and comes back to
//! the same bytes.

use bytes::Bytes;

use super::input::Input;
use crate::limits::Limits;
use crate::wire::dialect::Dialect;
use crate::wire::header::{HeaderLimits, HeaderView};
use crate::wire::packet::Encoded;
use crate::wire::rewrite::{self, Origin, forward};

/// Account and channel id the gateway knows, and then the header a client sent.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let origin = Origin { account: input.text(), channel_id: input.text(), app: "x_im", gate_id: "gate01" };
    let Ok(view) = HeaderView::scan(input.rest(), &Limits::default().header()) else { return };
    for (from, to) in [(Dialect::XIm, Dialect::Kim), (Dialect::Kim, Dialect::XIm)] {
        let body = Bytes::from_static(b"hello");
        let sent = forward(&view, from, &origin, body.clone());
        let there = translate(&sent, to);
        assert_eq!(there, forward(&view, to, &origin, body));
        let back = translate(&there, from);
        assert_eq!(back, sent);
        assert_eq!(translate(&sent, from), sent);
    }
}

fn translate(frame: &Encoded, to: Dialect) -> Encoded {
    let view =
        HeaderView::scan(frame.header(), &HeaderLimits::BACKEND).expect("it was written by the gateway");
    rewrite::translate(&view, to, frame.body())
}
