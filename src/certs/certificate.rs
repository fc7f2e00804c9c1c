//! The two certificates: a small CA, and a server's under it.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{CertsError, DAY, LOCAL_NAMES, NewFile, name};

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

pub(super) fn subject_names(names: &[String]) -> Result<Vec<String>, CertsError> {
    let mut all: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    for name in names {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'*' | b':');
        if name.is_empty() || !name.bytes().all(known) || (name.contains(':') && !is_address(name)) {
            return Err(CertsError::Name(name.clone()));
        }
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    Ok(all)
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}
