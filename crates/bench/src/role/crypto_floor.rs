//! The floor of a login: the operations of cryptography a server does in a full handshake of TLS 1.3 and in QUIC's, and
//! the check of a token, with the library the gateway has.

use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use aws_lc_rs::{digest, hmac};

use crate::error::BenchError;
use crate::role::control::{self, Ready};
use crate::role::window::{Measure, Window};

/// Its name among the roles.
pub(crate) const NAME: &str = "crypto-floor";

/// Secrets that are derived: those of handshake and application data of both ends, their keys, IVs and those of QUIC's
/// headers, Finished, resumption.
const DERIVED: usize = 24;

/// Packets that are sealed or opened in a handshake and a login.
const PACKETS: usize = 12;

/// Bytes of one.
const PACKET: usize = 1200;

/// Bytes of what is hashed and signed: messages of a handshake, most of them the certificate.
const TRANSCRIPT: usize = 1500;

pub(crate) fn run(_argument: &str) -> Result<(), BenchError> {
    let (sender, questions) = std::sync::mpsc::sync_channel(1);
    control::each_question(move |question: Measure| sender.send(question).is_ok());
    let mut handshakes =
        HandshakeCrypto::new().map_err(|_| BenchError::failed("the library of cryptography fails"))?;
    control::answer(&Ready {})?;
    while let Ok(question) = questions.recv() {
        let mut window = Window::new(question, Instant::now());
        let mut units = 0;
        let measured = loop {
            handshakes.one().map_err(|_| BenchError::failed("the library of cryptography fails"))?;
            units += 1;
            if let Some(measured) = window.turn(Instant::now(), units)? {
                break measured;
            }
        };
        control::answer(&measured)?;
        if matches!(questions.try_recv(), Err(TryRecvError::Disconnected)) {
            break;
        }
    }
    Ok(())
}

struct HandshakeCrypto {
    random: SystemRandom,
    identity: EcdsaKeyPair,
    /// The other end's.
    public: Vec<u8>,
    token_key: hmac::Key,
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl HandshakeCrypto {
    fn new() -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let public = EphemeralPrivateKey::generate(&X25519, &random)?.compute_public_key()?.as_ref().to_vec();
        let identity = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        Ok(Self { random, identity, public, token_key: hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]) })
    }

    fn one(&mut self) -> Result<(), Unspecified> {
        let transcript = [7; TRANSCRIPT];
        let own = EphemeralPrivateKey::generate(&X25519, &self.random)?;
        let _sent = own.compute_public_key()?;
        let peer = UnparsedPublicKey::new(&X25519, &self.public);
        let prk = agree_ephemeral(own, peer, Unspecified, |shared| {
            Ok(Salt::new(HKDF_SHA256, &[0; 32]).extract(shared))
        })?;
        let mut secret = [0; 32];
        for _ in 0..DERIVED {
            prk.expand(&[b"tls13 derived"], Len(32))?.fill(&mut secret)?;
        }
        let hash = digest::digest(&digest::SHA256, &transcript);
        let _sent = self.identity.sign(&self.random, hash.as_ref())?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &secret[..16])?);
        for number in 0..PACKETS {
            let mut packet = vec![0; PACKET];
            let nonce = Nonce::assume_unique_for_key([number as u8; 12]);
            key.seal_in_place_append_tag(nonce, Aad::empty(), &mut packet)?;
        }
        let _checked = hmac::sign(&self.token_key, &transcript[..200]);
        Ok(())
    }
}
