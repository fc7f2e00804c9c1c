//! Whose tokens are taken, and for whom they are: `iss` and `aud`.

use super::*;

fn with(extra: &str) -> String {
    CLAIMS.replace('}', &format!("{extra}}}"))
}

fn expect(issuer: Option<&str>, audience: Option<&str>) -> ExpectedClaims {
    ExpectedClaims { issuer: issuer.map(str::to_owned), audience: audience.map(str::to_owned) }
}

#[rstest]
#[case("", false)]
#[case(r#","iss":"us""#, true)]
#[case(r#","iss":"us","aud":["x"]"#, true)]
#[case(r#","iss":"Us""#, false)]
#[case(r#","iss":"us ""#, false)]
#[case(r#","iss":"them""#, false)]
#[case(r#","iss":"""#, false)]
#[case(r#","iss":null"#, false)]
#[case(r#","iss":7"#, false)]
#[case(r#","iss":["us"]"#, false)]
#[case(r#","iss":{"us":1}"#, false)]
#[case(r#","aud":"us""#, false)]
#[case(r#","iss":"them","iss":"us""#, false)]
fn b16_iss_must_be_the_configured_issuer(#[case] extra: &str, #[case] good: bool) {
    for way in WAYS.iter() {
        let token = way.sign(&header(way.name), &with(extra));
        let outcome = way.verify_expecting(&token, &expect(Some("us"), None)).map(drop);
        assert_eq!(outcome, if good { Ok(()) } else { Err(TokenError::Claims) }, "{} {extra}", way.name);
    }
}

#[rstest]
#[case("", false)]
#[case(r#","aud":"im""#, true)]
#[case(r#","aud":["im"]"#, true)]
#[case(r#","aud":["web","im"]"#, true)]
#[case(r#","aud":["web","im","im"],"iss":7"#, true)]
#[case(r#","aud":"web""#, false)]
#[case(r#","aud":"IM""#, false)]
#[case(r#","aud":"im web""#, false)]
#[case(r#","aud":"""#, false)]
#[case(r#","aud":[]"#, false)]
#[case(r#","aud":["web"]"#, false)]
#[case(r#","aud":[["im"]]"#, false)]
#[case(r#","aud":["im",7]"#, false)]
#[case(r#","aud":["im",null]"#, false)]
#[case(r#","aud":null"#, false)]
#[case(r#","aud":7"#, false)]
#[case(r#","aud":{"im":true}"#, false)]
#[case(r#","iss":"im""#, false)]
fn b16_aud_must_be_or_list_the_configured_audience(#[case] extra: &str, #[case] good: bool) {
    for way in WAYS.iter() {
        let token = way.sign(&header(way.name), &with(extra));
        let outcome = way.verify_expecting(&token, &expect(None, Some("im"))).map(drop);
        assert_eq!(outcome, if good { Ok(()) } else { Err(TokenError::Claims) }, "{} {extra}", way.name);
    }
}

#[test]
fn b16_both_are_needed_when_both_are_set_and_neither_when_none_is() {
    let way = &WAYS[0];
    let both = expect(Some("us"), Some("im"));
    for (extra, good) in [
        (r#","iss":"us","aud":"im""#, true),
        (r#","iss":"us""#, false),
        (r#","aud":"im""#, false),
        (r#","iss":"im","aud":"us""#, false),
    ] {
        let token = way.sign(&header("HS256"), &with(extra));
        assert_eq!(way.verify_expecting(&token, &both).is_ok(), good, "{extra}");
        assert!(way.verify(&token).is_ok(), "{extra}");
    }
    let minted = SigningKey::from_secret(SECRET).mint_until("alice", "x_im", NOW + 9, &both);
    assert!(way.verify_expecting(&minted, &both).is_ok());
    let expired = SigningKey::from_secret(SECRET).mint_until("alice", "x_im", NOW - 60, &both);
    assert_eq!(way.verify_expecting(&expired, &both), Err(TokenError::Expired));
}
