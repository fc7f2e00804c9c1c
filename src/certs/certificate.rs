//! The two certificates: a small CA, and a server's under it.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::ServerName;

use super::error::CertsError;
use super::name;
use super::new_file::NewFile;

/// What every server certificate is valid for, beside the names asked for.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of a server certificate: the most that all clients accept.
const SERVER_LIFE: Duration = Duration::from_secs(825 * DAY.as_secs());

/// Life of the CA: it outlives several server certificates.
const CA_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// Certificates begin this long ago, for clients whose clock is behind.
pub(super) const BACKDATE: Duration = Duration::from_secs(60 * 60);

/// A CA that can sign, and its files.
pub(super) fn new_authority() -> Result<(Issuer<'static, KeyPair>, [NewFile; 2]), CertsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CertsError::Certificate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Gateway CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, CA_LIFE);
    let certificate = params.self_signed(&key).map_err(CertsError::Certificate)?;
    let files =
        [NewFile::secret(name::CA_KEY, key.serialize_pem()), NewFile::public(name::CA, certificate.pem())];
    Ok((Issuer::new(params, key), files))
}

/// The files of a server certificate.
pub(super) fn new_server(
    names: Vec<String>,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<[NewFile; 2], CertsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CertsError::Certificate)?;
    let mut params = CertificateParams::new(names).map_err(CertsError::Certificate)?;
    params.distinguished_name.push(DnType::CommonName, "Gateway");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_life(&mut params, SERVER_LIFE);
    let certificate = params.signed_by(&key, issuer).map_err(CertsError::Certificate)?;
    Ok([
        NewFile::secret(name::SERVER_KEY, key.serialize_pem()),
        // The leaf alone, without the CA: a handshake must fit three packets (row C1).
        NewFile::public(name::SERVER, certificate.pem()),
    ])
}

fn set_life(params: &mut CertificateParams, life: Duration) {
    let begin = SystemTime::now() - BACKDATE;
    params.not_before = begin.into();
    params.not_after = (begin + life).into();
}

/// The names of a certificate: those every one has, and those that are asked for, in the form in which clients look for
/// them.
pub(super) fn subject_names(names: &[String]) -> Result<Vec<String>, CertsError> {
    let mut all: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    for asked in names {
        // The dot of the root is part of a name in DNS, and in no certificate.
        let name = asked.strip_suffix('.').unwrap_or(asked);
        let host = name.strip_prefix("*.").unwrap_or(name);
        let known = match ServerName::try_from(host) {
            Ok(ServerName::DnsName(_)) => true,
            // An address has no dot behind it, and no wildcard.
            Ok(ServerName::IpAddress(_)) => asked == host,
            _ => false,
        };
        if !known {
            return Err(CertsError::Name(asked.clone()));
        }
        if !all.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            all.push(name.to_owned());
        }
    }
    Ok(all)
}
