//! A sign-in's token: the signature, and the claims behind it.

use divan::{Bencher, black_box};
use gateway::auth::{KeySet, TokenError, Verifier, mint_until};
use gateway::config::{ExpectedClaims, Secret, VerifyingKey};
use gateway::limits::Limits;

const SECRET: &[u8] = b"a secret of the benches, 32 byte";

/// Seconds since 1970.
const NOW: u64 = 1_700_000_000;

fn verifier() -> Verifier {
    let keys = KeySet::new(&[VerifyingKey::Hs256(Secret(SECRET.to_vec())).into()]);
    Verifier::new(keys, &ExpectedClaims::default())
}

fn bench(bencher: Bencher<'_, '_>, token: &str, expected: Option<TokenError>) {
    let (verifier, limits) = (verifier(), Limits::default());
    let verify = || verifier.verify(black_box(token), NOW, limits.max_token, limits.max_account);
    assert_eq!(verify().err(), expected);
    bencher.bench_local(verify);
}

#[divan::bench]
fn hs256(bencher: Bencher<'_, '_>) {
    bench(bencher, &mint_until(SECRET, "alice", "x_im", NOW + 60), None);
}

/// What a guess costs the gateway.
#[divan::bench]
fn hs256_of_another_secret(bencher: Bencher<'_, '_>) {
    let token = mint_until(b"another secret, 32 bytes as well", "alice", "x_im", NOW + 60);
    bench(bencher, &token, Some(TokenError::Signature));
}
