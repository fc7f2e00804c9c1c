//! A server's chain, looked at as a client does that trusts whoever signed its end (row H18).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{GeneralName, X509Certificate};

/// Why no client accepts a chain, whomever it trusts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The certificate at this place, counted from 1, cannot be read.
    #[error("holds a certificate that is no X.509 (number {0})")]
    Broken(usize),
    /// The server's own has not begun.
    #[error("holds a certificate that is not valid before {begin}, and here it is {now}")]
    NotYet {
        /// Its first second.
        begin: String,
        /// What the clock of this machine says.
        now: String,
    },
    /// The server's own has ended.
    #[error("holds a certificate that expired at {0}")]
    Expired(String),
    /// The server's own has neither DNS names nor IP addresses.
    #[error("holds a certificate without a name that clients look for (subjectAltName)")]
    NoName,
    /// A name that no client looks for.
    #[error("holds a certificate for {0:?}; with the dot at its end the name matches no client's")]
    TrailingDot(String),
    /// The server's own is for other things.
    #[error("holds a certificate that is not for servers (extendedKeyUsage has no serverAuth)")]
    Purpose,
}

/// What some clients refuse, or all that do not know the certificates that are missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainWarning {
    /// The server's own is a CA's.
    #[error("the first certificate is that of a CA; many clients do not take that for a server's")]
    Authority,
    /// A certificate does not belong behind the one before it.
    #[error(
        "certificate {place} ({subject}) did not sign the one before it; only clients that know the right one \
         accept the chain"
    )]
    Unrelated {
        /// Counted from 1.
        place: usize,
        /// Its name.
        subject: String,
    },
    /// An intermediate has ended.
    #[error(
        "certificate {place} ({subject}) expired at {end}; only clients that know a newer one accept the chain"
    )]
    Expired {
        /// Counted from 1.
        place: usize,
        /// Its name.
        subject: String,
        /// Its last second.
        end: String,
    },
    /// An intermediate has not begun.
    #[error("certificate {place} ({subject}) is not valid before {begin}")]
    NotYet {
        /// Counted from 1.
        place: usize,
        /// Its name.
        subject: String,
        /// Its first second.
        begin: String,
    },
}

/// Looks at a chain, the server's own certificate first; in what it lacks it is given the benefit of the doubt.
///
/// # Errors
/// [`ChainError`]: no client accepts it.
pub fn inspect(chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Vec<ChainWarning>, ChainError> {
    let parsed: Vec<_> = chain
        .iter()
        .enumerate()
        .map(|(index, der)| parse(der).ok_or(ChainError::Broken(index + 1)))
        .collect::<Result<_, _>>()?;
    let ([leaf, ..], [leaf_der, rest @ ..]) = (&parsed[..], chain) else { return Ok(Vec::new()) };
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    check_validity(leaf, second)?;
    check_names(leaf)?;
    if verify(leaf_der, &[], None).is_err_and(|error| is_purpose(&error)) {
        return Err(ChainError::Purpose);
    }
    let mut warnings = Vec::new();
    if leaf.is_ca() {
        warnings.push(ChainWarning::Authority);
    } else if let Some(index) = (0..rest.len()).find(|index| !is_signed(leaf_der, rest, *index)) {
        let subject = parsed[index + 1].subject().to_string();
        warnings.push(ChainWarning::Unrelated { place: index + 2, subject });
    }
    for (index, certificate) in parsed.iter().enumerate().skip(1) {
        let (place, subject) = (index + 1, certificate.subject().to_string());
        match check_validity(certificate, second) {
            Err(ChainError::Expired(end)) => warnings.push(ChainWarning::Expired { place, subject, end }),
            Err(ChainError::NotYet { begin, .. }) => {
                warnings.push(ChainWarning::NotYet { place, subject, begin });
            }
            _ => {}
        }
    }
    Ok(warnings)
}

/// The second since 1970 after which a chain is no longer valid, because its first certificate to end has; none if one
/// cannot be read.
pub fn not_after(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let ends: Option<Vec<_>> = chain.iter().map(|der| validity(der).map(|(_, end)| end)).collect();
    ends?.into_iter().min()
}

/// Returns `true` if a server's certificate is signed by one of these authorities, by way of intermediates. Asked of a
/// moment at which all are valid: whether one has ended is another question.
pub(super) fn is_signed_by(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    authorities: Vec<CertificateDer<'_>>,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    verify(leaf, intermediates, Some(roots)).is_ok()
}

/// Returns `true` if the chain up to it goes back to the certificate at `index` of the rest.
fn is_signed(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], index: usize) -> bool {
    is_signed_by(leaf, &rest[..index], vec![rest[index].clone()])
}

/// What a client says that trusts `roots`, or nobody.
fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: Option<RootCertStore>,
) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    let begins = intermediates.iter().chain([leaf]).filter_map(validity).map(|(begin, _)| begin).max();
    let moment = Duration::from_secs(begins.and_then(|second| second.try_into().ok()).unwrap_or(0));
    let moment = UnixTime::since_unix_epoch(moment);
    let algorithms = default_provider().signature_verification_algorithms.all;
    let roots = roots.unwrap_or_else(RootCertStore::empty);
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, moment, algorithms)
}

fn is_purpose(error: &rustls::Error) -> bool {
    use CertificateError::{InvalidPurpose, InvalidPurposeContext};
    matches!(error, rustls::Error::InvalidCertificate(InvalidPurpose | InvalidPurposeContext { .. }))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(parsed)
}

/// First and last second of a certificate, since 1970.
fn validity(der: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let validity = parse(der)?.validity().clone();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn check_validity(certificate: &X509Certificate<'_>, now: u64) -> Result<(), ChainError> {
    let [begin, end] = [certificate.validity().not_before, certificate.validity().not_after]
        .map(|time| u64::try_from(time.timestamp()).unwrap_or(0));
    if now < begin {
        return Err(ChainError::NotYet { begin: shown(begin), now: shown(now) });
    }
    if now > end {
        return Err(ChainError::Expired(shown(end)));
    }
    Ok(())
}

fn shown(second: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string()
}

fn check_names(certificate: &X509Certificate<'_>) -> Result<(), ChainError> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.as_ref().map_or(&[][..], |extension| &extension.value.general_names);
    let mut found = false;
    for name in names {
        match name {
            GeneralName::DNSName(name) if name.ends_with('.') => {
                return Err(ChainError::TrailingDot((*name).to_owned()));
            }
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => found = true,
            _ => {}
        }
    }
    if found { Ok(()) } else { Err(ChainError::NoName) }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    use super::*;

    /// The year in which all is well.
    const NOW: i32 = 2026;

    /// Who signs.
    type Authority = (CertificateDer<'static>, Issuer<'static, KeyPair>);

    fn year(year: i32) -> SystemTime {
        rcgen::date_time_ymd(year, 6, 1).into()
    }

    fn params(names: &[&str], from: i32, to: i32) -> CertificateParams {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        params
    }

    fn authority(name: &str, from: i32, to: i32, above: Option<&Authority>) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&[], from, to);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = match above {
            Some((_, issuer)) => params.signed_by(&key, issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        (certificate.der().clone(), Issuer::new(params, key))
    }

    fn signed(params: &CertificateParams, by: &Authority) -> CertificateDer<'static> {
        params.signed_by(&KeyPair::generate().unwrap(), &by.1).unwrap().der().clone()
    }

    fn good() -> CertificateParams {
        params(&["gw_1.example.org", "*.example.org", "192.0.2.7"], 2020, 2030)
    }

    #[test]
    fn h18_a_good_chain_is_accepted_of_whatever_length() {
        let root = authority("Root", 2019, 2040, None);
        let inner = authority("Inner", 2019, 2040, Some(&root));
        let leaf = signed(&good(), &inner);
        for chain in [vec![&leaf], vec![&leaf, &inner.0], vec![&leaf, &inner.0, &root.0]] {
            let chain: Vec<_> = chain.into_iter().cloned().collect();
            assert_eq!(inspect(&chain, year(NOW)), Ok(vec![]), "{}", chain.len());
        }
        let own = good().self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(inspect(&[own.der().clone()], year(NOW)), Ok(vec![]));
    }

    #[test]
    fn h18_what_no_client_accepts_is_refused() {
        let root = authority("Root", 2019, 2040, None);
        let refused = |params: &CertificateParams, now: i32| {
            inspect(&[signed(params, &root), root.0.clone()], year(now)).unwrap_err().to_string()
        };
        let message = refused(&good(), 2019);
        assert_eq!(
            message,
            "holds a certificate that is not valid before 2020-01-01T00:00:00Z, and here it is 2019-06-01T00:00:00Z"
        );
        assert_eq!(refused(&good(), 2031), "holds a certificate that expired at 2030-01-01T00:00:00Z");
        assert!(refused(&params(&[], 2020, 2030), NOW).contains("(subjectAltName)"));
        let dotted = params(&["gw.example.org", "gw.example.org."], 2020, 2030);
        assert!(refused(&dotted, NOW).contains("for \"gw.example.org.\"; with the dot at its end"));
        let mut client = good();
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert!(refused(&client, NOW).contains("has no serverAuth"));
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        assert_eq!(inspect(&[signed(&client, &root)], year(NOW)), Ok(vec![]));

        let leaf = signed(&good(), &root);
        assert_eq!(inspect(&[leaf.clone(), vec![0; 9].into()], year(NOW)), Err(ChainError::Broken(2)));
        let longer = [leaf.as_ref(), &[0]].concat();
        assert_eq!(inspect(&[longer.into()], year(NOW)), Err(ChainError::Broken(1)));
    }

    #[test]
    fn h18_what_some_clients_refuse_is_told() {
        let root = authority("Root", 2019, 2040, None);
        let warned = |chain: &[&CertificateDer<'static>]| {
            let chain: Vec<_> = chain.iter().map(|der| (*der).clone()).collect();
            inspect(&chain, year(NOW)).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // The same name with another key, and another name.
        let inner = authority("Inner", 2019, 2040, Some(&root));
        let leaf = signed(&good(), &inner);
        for other in [authority("Inner", 2019, 2040, Some(&root)), authority("Other", 2019, 2040, None)] {
            let told = warned(&[&leaf, &other.0]);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with("certificate 2 (CN="), "{told:?}");
            assert!(told[0].contains("did not sign the one before it"), "{told:?}");
        }
        let stranger = authority("Stranger", 2019, 2040, None);
        assert!(warned(&[&leaf, &inner.0, &stranger.0])[0].starts_with("certificate 3 (CN=Stranger"));

        let old = authority("Old", 2019, 2025, Some(&root));
        assert_eq!(
            warned(&[&signed(&good(), &old), &old.0, &root.0]),
            [
                "certificate 2 (CN=Old) expired at 2025-01-01T00:00:00Z; only clients that know a newer one accept \
                 the chain"
            ]
        );
        let young = authority("Young", 2027, 2040, Some(&root));
        assert_eq!(
            warned(&[&signed(&good(), &young), &young.0]),
            ["certificate 2 (CN=Young) is not valid before 2027-01-01T00:00:00Z"]
        );
        // What `openssl req -x509` makes unless it is told otherwise.
        let mut both = good();
        both.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        assert!(warned(&[&signed(&both, &root)])[0].contains("that of a CA"));
    }

    #[test]
    fn h18_a_chain_ends_with_its_first_certificate_to_end() {
        let root = authority("Root", 2019, 2028, None);
        let chain = [signed(&good(), &root), root.0.clone()];
        assert_eq!(not_after(&chain[..1]), Some(1_893_456_000));
        assert_eq!(not_after(&chain), Some(1_830_297_600));
        assert_eq!(not_after(&[chain[0].clone(), vec![0].into()]), None);
        assert_eq!(not_after(&[]), None);
    }
}
