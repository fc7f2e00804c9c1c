//! What the first bytes of a connection say: versions 1 and 2 of the PROXY protocol, as HAProxy's proxy-protocol.txt defines
//! them. No I/O.

use super::header::{ProxyHeaderError, ProxyPrefix};
use super::{binary, text};

impl ProxyPrefix {
    /// Reads what has come. More bytes never change an outcome other than [`ProxyPrefix::Incomplete`].
    ///
    /// # Errors
    /// [`ProxyHeaderError`]: it begins like a header and is none.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, ProxyHeaderError> {
        let is_begun = |signature: &[u8]| signature.starts_with(bytes) || bytes.starts_with(signature);
        if is_begun(text::SIGNATURE) {
            text::parse(bytes)
        } else if is_begun(binary::SIGNATURE) {
            binary::parse(bytes)
        } else {
            Ok(Self::Absent)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::checksum::crc32c;
    use super::super::header::ProxyHeader;
    use super::*;
    use crate::limits::PROXY_HEADER;

    /// A header of version 2.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &len, rest].concat()
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind], u16::try_from(value.len()).unwrap().to_be_bytes().as_slice(), value].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x01, 0xbb];

    fn v6() -> Vec<u8> {
        let mut addresses = vec![0; 36];
        (addresses[0], addresses[1], addresses[15], addresses[31]) = (0x20, 0x01, 7, 1);
        addresses[32..].copy_from_slice(&[0xff, 0xff, 0, 1]);
        addresses
    }

    /// The outcome, which must be the same wherever the header is cut, and whatever comes behind it.
    #[track_caller]
    fn read(header: &[u8]) -> Option<SocketAddr> {
        for end in 0..header.len() {
            assert_eq!(ProxyPrefix::of(&header[..end]), Ok(ProxyPrefix::Incomplete), "{end} bytes");
        }
        let whole = ProxyPrefix::of(header);
        let Ok(ProxyPrefix::Complete(ProxyHeader { len, client })) = whole else { panic!("{whole:?}") };
        assert_eq!(len, header.len());
        assert_eq!(ProxyPrefix::of(&[header, b"\x02\0\0\0\x04PROXY TCP4"].concat()), whole);
        client
    }

    /// The refusal: it is said with the first byte that shows it, and stays the same.
    #[track_caller]
    fn refused(header: &[u8]) -> ProxyHeaderError {
        let all: Vec<_> = (0..=header.len()).map(|end| ProxyPrefix::of(&header[..end])).collect();
        let first = all.iter().position(Result::is_err).expect("it is refused");
        assert!(all[..first].iter().all(|prefix| *prefix == Ok(ProxyPrefix::Incomplete)));
        assert!(all[first..].iter().all(|prefix| *prefix == all[first]));
        all[first].unwrap_err()
    }

    #[rstest]
    #[case::v4("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n", Some("192.0.2.7:12345"))]
    #[case::ports_at_their_ends("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", Some("0.0.0.0:0"))]
    #[case::v6("PROXY TCP6 2001:db8::7 2001:db8::1 65535 1\r\n", Some("[2001:db8::7]:65535"))]
    #[case::mapped("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("[::ffff:192.0.2.7]:1"))]
    #[case::unknown("PROXY UNKNOWN\r\n", None)]
    #[case::the_longest(
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        None
    )]
    #[case::unknown_with_anything("PROXY UNKNOWN \t?\r?\r\n", None)]
    fn a_line_is_read_wherever_it_is_cut(#[case] line: &str, #[case] client: Option<&str>) {
        assert_eq!(read(line.as_bytes()), client.map(|client| client.parse().unwrap()));
    }

    #[test]
    fn the_longest_line_has_107_bytes() {
        let line = |len: usize| [b"PROXY UNKNOWN ".as_slice(), &vec![b'x'; len - 16], b"\r\n"].concat();
        assert_eq!(read(&line(107)), None);
        assert_eq!(refused(&line(108)), ProxyHeaderError::Line);
    }

    #[rstest]
    #[case::lf_alone("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", ProxyHeaderError::Line)]
    #[case::a_field_too_many("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", ProxyHeaderError::Fields)]
    #[case::a_field_too_few("PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", ProxyHeaderError::Fields)]
    #[case::two_blanks("PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::a_tab("PROXY TCP4\t192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::a_blank_at_the_end("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", ProxyHeaderError::Fields)]
    #[case::leading_zero("PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::leading_zero_of_a_port("PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n", ProxyHeaderError::Fields)]
    #[case::a_sign("PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n", ProxyHeaderError::Fields)]
    #[case::a_port_too_large("PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", ProxyHeaderError::Fields)]
    #[case::v6_in_v4("PROXY TCP4 ::1 ::2 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::v4_in_v6("PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::a_scope("PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::lower_case("PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::udp("PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    #[case::nothing("PROXY \r\n", ProxyHeaderError::Fields)]
    #[case::unknowns("PROXY UNKNOWNS\r\n", ProxyHeaderError::Fields)]
    #[case::no_text("PROXY TCP4 192.0.2.7\u{e9} 198.51.100.1 1 2\r\n", ProxyHeaderError::Fields)]
    fn a_line_that_is_not_exact_is_refused(#[case] line: &str, #[case] error: ProxyHeaderError) {
        assert_eq!(refused(line.as_bytes()), error);
    }

    #[test]
    fn version_2_is_read_wherever_it_is_cut() {
        let v4 = "192.0.2.7:12345".parse().ok();
        assert_eq!(read(&binary(0x21, 0x11, &V4)), v4);
        assert_eq!(read(&binary(0x21, 0x21, &v6())), "[2001::7]:65535".parse().ok());
        // What has no address is the connection's own.
        assert_eq!(read(&binary(0x21, 0x31, &[b'/'; 216])), None, "Unix");
        assert_eq!(read(&binary(0x21, 0x00, b"")), None, "UNSPEC");
        assert_eq!(read(&binary(0x21, 0x00, b"whatever, skipped")), None);
        assert_eq!(read(&binary(0x20, 0x00, b"")), None, "LOCAL");
        assert_eq!(read(&binary(0x20, 0x11, &V4)), None, "of the balancer itself");
        assert_eq!(read(&binary(0x20, 0xff, b"skipped")), None, "any family");
        // ALPN, a unique id, SSL with a field within it, and nothing at all.
        let fields =
            [field(1, b"x-im/1"), field(5, &[7; 128]), field(0x20, &[1; 40]), field(4, b"")].concat();
        assert_eq!(read(&binary(0x21, 0x11, &[&V4[..], &fields].concat())), v4);
    }

    #[rstest]
    #[case::version_1(binary(0x11, 0x11, &V4), ProxyHeaderError::Command)]
    #[case::version_3(binary(0x31, 0x11, &V4), ProxyHeaderError::Command)]
    #[case::another_command(binary(0x22, 0x11, &V4), ProxyHeaderError::Command)]
    #[case::udp(binary(0x21, 0x12, &V4), ProxyHeaderError::Family)]
    #[case::v4_of_nothing(binary(0x21, 0x10, &V4), ProxyHeaderError::Family)]
    #[case::another_family(binary(0x21, 0x41, &V4), ProxyHeaderError::Family)]
    #[case::too_short_for_v4(binary(0x21, 0x11, &V4[..11]), ProxyHeaderError::Length)]
    #[case::too_short_for_v6(binary(0x21, 0x21, &V4), ProxyHeaderError::Length)]
    #[case::too_short_for_unix(binary(0x21, 0x31, &[0; 215]), ProxyHeaderError::Length)]
    #[case::too_long(binary(0x21, 0x00, &vec![0; PROXY_HEADER - 15]), ProxyHeaderError::Length)]
    #[case::much_too_long(binary(0x20, 0x00, &[0; 65535]), ProxyHeaderError::Length)]
    #[case::a_field_cut_short(binary(0x21, 0x11, &[&V4[..], &[4, 0]].concat()), ProxyHeaderError::Field)]
    #[case::a_field_too_long(binary(0x21, 0x11, &[&V4[..], &[4, 0, 2, 0]].concat()), ProxyHeaderError::Field)]
    #[case::a_checksum_of_3(
        binary(0x21, 0x11, &[&V4[..], &field(3, &[0; 3])].concat()),
        ProxyHeaderError::Field
    )]
    #[case::a_wrong_checksum(
        binary(0x21, 0x11, &[&V4[..], &field(3, &[0; 4])].concat()),
        ProxyHeaderError::Checksum
    )]
    fn version_2_that_is_not_exact_is_refused(#[case] header: Vec<u8>, #[case] error: ProxyHeaderError) {
        assert_eq!(refused(&header), error);
    }

    #[test]
    fn the_largest_header_is_taken() {
        let value = vec![7; PROXY_HEADER - 16 - 12 - 3];
        assert!(read(&binary(0x21, 0x11, &[&V4[..], &field(0xe0, &value)].concat())).is_some());
    }

    #[test]
    fn the_checksum_covers_every_byte() {
        let fields = [field(1, b"x-im/1"), field(3, &[0; 4]), field(4, &[0; 5])].concat();
        let mut header = binary(0x21, 0x11, &[&V4[..], &fields].concat());
        let at = 16 + 12 + 9 + 3;
        let checksum = crc32c([header.as_slice()]).to_be_bytes();
        header[at..at + 4].copy_from_slice(&checksum);
        assert!(read(&header).is_some());
        // Of what else is fixed a change is refused for another reason.
        for index in (16..28).chain([31, at, at + 3, header.len() - 1]) {
            header[index] ^= 0x10;
            assert_eq!(refused(&header), ProxyHeaderError::Checksum, "byte {index}");
            header[index] ^= 0x10;
        }
    }

    #[rstest]
    #[case::a_frame(b"\x02\0\0\0\x04abcd")]
    #[case::tls(b"\x16\x03\x01\x02\0")]
    #[case::http(b"GET /ws HTTP/1.1\r\n")]
    #[case::post(b"POST / HTTP/1.1\r\n")]
    #[case::nearly_1(b"PROXYTCP4")]
    #[case::nearly_2(b"\r\n\r\n\0\r\nQUIT\r")]
    fn what_begins_otherwise_has_no_header(#[case] bytes: &[u8]) {
        assert_eq!(ProxyPrefix::of(bytes), Ok(ProxyPrefix::Absent));
    }

    proptest! {
        #[test]
        fn what_a_balancer_writes_is_read(client: SocketAddr, server: SocketAddr, fields: Vec<(u8, Vec<u8>)>) {
            let client = SocketAddr::new(client.ip(), client.port());
            let server = match client {
                SocketAddr::V4(_) => SocketAddr::new([10, 0, 0, 1].into(), server.port()),
                SocketAddr::V6(_) => SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), server.port()),
            };
            let (name, family) = if client.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
            let (ip, port) = (client.ip(), client.port());
            let line = format!("PROXY {name} {ip} {} {port} {}\r\n", server.ip(), server.port());
            prop_assert_eq!(read(line.as_bytes()), Some(client));
            let octets = |address: SocketAddr| match address {
                SocketAddr::V4(address) => address.ip().octets().to_vec(),
                SocketAddr::V6(address) => address.ip().octets().to_vec(),
            };
            let mut rest = [octets(client), octets(server)].concat();
            rest.extend(port.to_be_bytes());
            rest.extend(server.port().to_be_bytes());
            for (kind, value) in fields.iter().filter(|(kind, _)| *kind != 3).take(16) {
                rest.extend(field(*kind, value));
            }
            prop_assert_eq!(read(&binary(0x21, family, &rest)), Some(client));
        }

        #[test]
        fn bytes_that_are_changed_are_refused_or_read_and_never_worse(
            at in 0usize..60, to: u8, text: bool, fields: Vec<u8>,
        ) {
            let mut header = match text {
                true => b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(),
                false => binary(0x21, 0x11, &[&V4[..], &fields].concat()),
            };
            let at = at % header.len();
            header[at] = to;
            if let Ok(ProxyPrefix::Complete(ProxyHeader { len, .. })) = ProxyPrefix::of(&header) {
                prop_assert!(len <= header.len());
            }
        }
    }
}
