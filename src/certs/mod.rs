//! The files a gateway needs and nobody should have to make by hand: a small CA, a server certificate, a JWT secret
//! and QUIC keys. Used by `gateway certs` and `gateway dev`.
//!
//! Keys and secrets are created with mode 0600 and every file appears whole or not at all. A lock file in the
//! directory keeps two processes from making halves of a pair each.

mod certificate;
mod chain;
mod error;
pub mod name;
mod new_file;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

pub use self::certificate::LOCAL_NAMES;
use self::certificate::{DAY, new_authority, new_server, subject_names};
pub use self::chain::{ChainError, ChainWarning, inspect, not_after};
pub use self::error::CertsError;
use self::new_file::NewFile;
use crate::keys::pem::{self, Label, PemError};
use crate::keys::{NoRandomness, QuicKeys, QuicLbKey, TicketKeys};
use crate::{clock, files};

/// [`ensure`] remakes a certificate that has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(7 * DAY.as_secs());

/// Random bytes in a JWT secret: the width of its HMAC.
const SECRET_LEN: usize = 32;

const LOCK: &str = ".lock";

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that are new.
    pub made: Vec<PathBuf>,
    /// Files that were there and are as they were.
    pub kept: Vec<PathBuf>,
}

/// Makes what is missing in a directory, and the directory; with `force` everything anew. `names` are host names or
/// IP addresses for the server certificate, beside [`LOCAL_NAMES`].
///
/// A server certificate that is there is kept with its own CA, or without any: it may come from elsewhere. Beside a
/// CA that did not sign it, it is refused.
///
/// # Errors
/// [`CertsError`]. Names and what is there are looked at, and both certificates made, before anything is written.
pub fn generate(dir: &Path, names: &[String], force: bool) -> Result<Report, CertsError> {
    let names = subject_names(names)?;
    let mut job = Job::start(dir)?;
    let (mut ca, mut server) = (false, false);
    if !force {
        ca = job.has_pair(name::CA, name::CA_KEY)?;
        server = job.has_pair(name::SERVER, name::SERVER_KEY)?;
    }
    if ca && server && !job.is_signed() {
        return Err(CertsError::Unrelated { server: job.path(name::SERVER), ca: job.path(name::CA) });
    }
    job.keep_or_make(ca, server, names)?;
    job.make_secrets(force)?;
    Ok(job.report)
}

/// For `gateway dev`: makes what is missing, and certificates anew that cannot be read, do not verify under the CA
/// or have fewer than 7 days left. The CA stays as long as it can sign, so clients that trust it go on to.
///
/// # Errors
/// [`CertsError`].
pub fn ensure(dir: &Path) -> Result<Report, CertsError> {
    let mut job = Job::start(dir)?;
    let ca = job.is_fresh(name::CA, name::CA_KEY);
    let server = ca && job.is_fresh(name::SERVER, name::SERVER_KEY) && job.is_signed();
    job.keep_or_make(ca, server, subject_names(&[])?)?;
    job.make_secrets(false)?;
    Ok(job.report)
}

/// Makes the key that the gateways behind a QUIC-LB balancer share with it, and nothing else; one that is there stays,
/// unless `force` is set.
///
/// # Errors
/// [`CertsError`].
pub fn generate_quic_lb_key(dir: &Path, force: bool) -> Result<Report, CertsError> {
    generate_one(dir, name::QUIC_LB_KEY, force, || Ok(QuicLbKey::generate()?.to_text()))
}

/// Makes the keys of QUIC that a gateway keeps over restarts, and nothing else; those that are there stay, unless `force` is
/// set.
///
/// # Errors
/// [`CertsError`].
pub fn generate_quic_keys(dir: &Path, force: bool) -> Result<Report, CertsError> {
    generate_one(dir, name::QUIC_KEYS, force, || Ok(QuicKeys::generate()?.to_text()))
}

fn generate_one(
    dir: &Path,
    name: &'static str,
    force: bool,
    make: impl FnOnce() -> Result<String, CertsError>,
) -> Result<Report, CertsError> {
    let mut job = Job::start(dir)?;
    if !force && job.path(name).exists() {
        job.keep(&[name]);
    } else {
        job.write(vec![NewFile::secret(name, make()?)])?;
    }
    Ok(job.report)
}

/// Puts a new key of TLS tickets ahead of those in the directory, of which the oldest goes; makes the file if there is none.
/// Nothing else is touched.
///
/// # Errors
/// [`CertsError`]; then the file is as it was.
pub fn rotate_tickets(dir: &Path) -> Result<Report, CertsError> {
    let mut job = Job::start(dir)?;
    let path = job.path(name::TICKET_KEYS);
    let keys = if path.exists() {
        match TicketKeys::parse(&files::text(&path)?) {
            Ok(keys) => keys.rotated()?,
            Err(error) => return Err(CertsError::TicketKeys { path, error }),
        }
    } else {
        TicketKeys::generate()?
    };
    job.write(vec![NewFile::secret(name::TICKET_KEYS, keys.to_text())])?;
    Ok(job.report)
}

/// One run over a directory, under its lock.
struct Job<'a> {
    dir: &'a Path,
    report: Report,
    /// Held until the job is dropped.
    _lock: File,
}

impl<'a> Job<'a> {
    fn start(dir: &'a Path) -> Result<Self, CertsError> {
        clock::check()?;
        fs::create_dir_all(dir).map_err(|error| io_error(dir, error))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| io_error(&path, error))?;
        Ok(Self { dir, report: Report::default(), _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn has_pair(&self, first: &str, second: &str) -> Result<bool, CertsError> {
        let (first, second) = (self.path(first), self.path(second));
        match (first.exists(), second.exists()) {
            (true, false) => Err(CertsError::HalfPair { present: first, missing: second }),
            (false, true) => Err(CertsError::HalfPair { present: second, missing: first }),
            (both, _) => Ok(both),
        }
    }

    /// A pair that can be read, belongs together and is valid for a while.
    fn is_fresh(&self, certificate: &str, key: &str) -> bool {
        let key = files::text(&self.path(key)).ok().and_then(|pem| KeyPair::from_pem(&pem).ok());
        let certificate = self.certificates(certificate).and_then(|chain| chain.into_iter().next());
        let (Some(key), Some(certificate)) = (key, certificate) else { return false };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&certificate) else { return false };
        let renewal = (SystemTime::now() + RENEW_BEFORE).duration_since(UNIX_EPOCH);
        let renewal = renewal.map_or(0, |since| since.as_secs());
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        parsed.public_key().subject_public_key.data == key.public_key_raw() && end > renewal
    }

    /// The certificates of a file; none if one cannot be read.
    fn certificates(&self, name: &str) -> Option<Vec<CertificateDer<'static>>> {
        let pem = files::unmarked(&self.path(name)).ok()?;
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().ok()
    }

    /// Returns `true` if the CA that is there signed the server certificate that is there.
    fn is_signed(&self) -> bool {
        let (authorities, chain) = (self.certificates(name::CA), self.certificates(name::SERVER));
        let (Some(authorities), Some(chain)) = (authorities, chain) else { return false };
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        chain::is_signed_by(leaf, intermediates, authorities)
    }

    /// Keeps the pairs that are to be kept. Without a server's pair it makes one, and before that a CA if there is
    /// none to keep.
    fn keep_or_make(&mut self, ca: bool, server: bool, names: Vec<String>) -> Result<(), CertsError> {
        if ca {
            self.keep(&[name::CA, name::CA_KEY]);
        }
        if server {
            self.keep(&[name::SERVER, name::SERVER_KEY]);
            return Ok(());
        }
        let mut files = Vec::new();
        let issuer = if ca {
            self.issuer()?
        } else {
            let (issuer, made) = new_authority()?;
            files.extend(made);
            issuer
        };
        files.extend(new_server(names, &issuer)?);
        self.write(files)
    }

    fn keep(&mut self, names: &[&str]) {
        let paths = names.iter().map(|name| self.dir.join(name));
        self.report.kept.extend(paths);
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, CertsError> {
        let read = |name| files::text(&self.path(name));
        let fail = |name| move |error| CertsError::Authority { path: self.dir.join(name), error };
        let key = read(name::CA_KEY)?;
        if let Err(PemError::Holds(Label::EncryptedPrivateKey)) = pem::private_key(key.as_bytes()) {
            return Err(CertsError::Encrypted(self.path(name::CA_KEY)));
        }
        let key = KeyPair::from_pem(&key).map_err(fail(name::CA_KEY))?;
        Issuer::from_ca_cert_pem(&read(name::CA)?, key).map_err(fail(name::CA))
    }

    fn make_secrets(&mut self, force: bool) -> Result<(), CertsError> {
        let mut files = Vec::new();
        if !force && self.path(name::JWT_SECRET).exists() {
            self.keep(&[name::JWT_SECRET]);
        } else {
            let mut secret = [0; SECRET_LEN];
            rand::fill(&mut secret).map_err(|_| NoRandomness)?;
            files.push(NewFile::secret(name::JWT_SECRET, format!("{}\n", URL_SAFE_NO_PAD.encode(secret))));
        }
        if !force && self.path(name::QUIC_KEYS).exists() {
            self.keep(&[name::QUIC_KEYS]);
        } else {
            files.push(NewFile::secret(name::QUIC_KEYS, QuicKeys::generate()?.to_text()));
        }
        self.write(files)
    }

    /// Writes beside the files and renames, so that nobody ever reads half of one. Nothing is renamed before all is
    /// written: a full disk leaves what was there.
    fn write(&mut self, files: Vec<NewFile>) -> Result<(), CertsError> {
        let dir = self.dir;
        let fresh = |file: &NewFile| dir.join(format!(".{}.new", file.name));
        for file in &files {
            let (path, fresh) = (self.path(file.name), fresh(file));
            // Left by a process that died here; we hold the lock, so nobody is writing it.
            let _ = fs::remove_file(&fresh);
            create(&fresh, file.mode)
                .and_then(|mut new| new.write_all(file.text.as_bytes()).and_then(|()| new.sync_all()))
                .map_err(|error| io_error(&path, error))?;
        }
        for file in &files {
            let path = self.path(file.name);
            fs::rename(fresh(file), &path).map_err(|error| io_error(&path, error))?;
            self.report.made.push(path);
        }
        Ok(())
    }
}

/// The file has its mode from the start: a secret is never readable by others, not even for a moment.
#[cfg(unix)]
fn create(path: &Path, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(not(unix))]
fn create(path: &Path, _mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn io_error(path: &Path, error: io::Error) -> CertsError {
    CertsError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rcgen::CertificateParams;

    use super::certificate::BACKDATE;
    use super::*;

    struct CertDir(PathBuf);

    impl CertDir {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gateway-certs-{}-{test}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(dir.join("made/on/the/way"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        /// Every file but the lock, with what it holds.
        fn files(&self) -> BTreeMap<String, Vec<u8>> {
            let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
            entries
                .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
                .filter(|(name, _)| name != LOCK)
                .collect()
        }

        fn leaf(&self, name: &str) -> CertificateDer<'static> {
            CertificateDer::from_pem_file(self.path(name)).unwrap()
        }
    }

    impl Drop for CertDir {
        fn drop(&mut self) {
            if let Some(top) = self.0.ancestors().nth(4) {
                let _ = fs::remove_dir_all(top);
            }
        }
    }

    const ALL: [&str; 6] =
        [name::CA, name::CA_KEY, name::SERVER, name::SERVER_KEY, name::JWT_SECRET, name::QUIC_KEYS];

    fn names(paths: &[PathBuf]) -> Vec<&str> {
        let mut names: Vec<_> =
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_unstable();
        names
    }

    /// Returns `true` if a client that trusts the CA would accept the server under a name.
    fn is_trusted(dir: &CertDir, host: &str) -> bool {
        use rustls::RootCertStore;
        use rustls::client::danger::ServerCertVerifier as _;
        use rustls::crypto::aws_lc_rs::default_provider;
        use rustls::pki_types::{ServerName, UnixTime};

        let mut roots = RootCertStore::empty();
        roots.add(dir.leaf(name::CA)).unwrap();
        let provider = std::sync::Arc::new(default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let host = ServerName::try_from(host.to_owned()).unwrap();
        verifier.verify_server_cert(&dir.leaf(name::SERVER), &[], &host, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn makes_everything_once_and_keeps_it() {
        let dir = CertDir::new("once");
        let first = generate(&dir.0, &["gw.example.org".into(), "192.0.2.7".into()], false).unwrap();
        assert_eq!(names(&first.made), sorted(ALL.into()));
        assert!(first.kept.is_empty());
        for host in ["localhost", "127.0.0.1", "::1", "gw.example.org", "192.0.2.7"] {
            assert!(is_trusted(&dir, host), "{host}");
        }
        assert!(!is_trusted(&dir, "other.example.org"));
        let before = dir.files();
        assert_eq!(before.len(), ALL.len());
        let second = generate(&dir.0, &[], false).unwrap();
        assert_eq!(names(&second.kept), sorted(ALL.into()));
        assert!(second.made.is_empty());
        assert_eq!(dir.files(), before);
        generate(&dir.0, &[], true).unwrap();
        let after = dir.files();
        assert!(before.iter().all(|(name, bytes)| after[name] != *bytes), "--force makes all anew");
    }

    #[test]
    fn c1_the_server_certificate_is_small_and_lives_825_days() {
        let dir = CertDir::new("small");
        generate(&dir.0, &[], false).unwrap();
        let leaf = dir.leaf(name::SERVER);
        assert!(leaf.len() < 700, "{}", leaf.len());
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert_eq!(life, 825 * 24 * 60 * 60);
    }

    #[cfg(unix)]
    #[test]
    fn keys_and_secrets_are_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = CertDir::new("mode");
        generate(&dir.0, &[], false).unwrap();
        for name in ALL {
            let mode = fs::metadata(dir.path(name)).unwrap().permissions().mode() & 0o777;
            let public = name == name::CA || name == name::SERVER;
            assert!(if public { mode & 0o077 != 0o077 } else { mode == 0o600 }, "{name}: {mode:o}");
        }
        let secret = fs::read_to_string(dir.path(name::JWT_SECRET)).unwrap();
        assert!(secret.trim_end().len() >= 43 && secret.trim_end().bytes().all(|b| b.is_ascii_graphic()));
        assert!(QuicKeys::parse(&fs::read_to_string(dir.path(name::QUIC_KEYS)).unwrap()).is_ok());
    }

    #[test]
    fn half_a_pair_is_an_error_and_a_foreign_server_certificate_is_kept() {
        let dir = CertDir::new("half");
        generate(&dir.0, &[], false).unwrap();
        fs::remove_file(dir.path(name::SERVER_KEY)).unwrap();
        let message = generate(&dir.0, &[], false).unwrap_err().to_string();
        assert!(
            message.contains("server.pem is there without ") && !message.contains("--force"),
            "{message}"
        );
        generate(&dir.0, &[], true).unwrap();

        fs::remove_file(dir.path(name::CA)).unwrap();
        fs::remove_file(dir.path(name::CA_KEY)).unwrap();
        let report = generate(&dir.0, &[], false).unwrap();
        assert!(report.made.is_empty() && !dir.path(name::CA).exists());

        fs::remove_file(dir.path(name::SERVER)).unwrap();
        fs::remove_file(dir.path(name::SERVER_KEY)).unwrap();
        fs::remove_file(dir.path(name::JWT_SECRET)).unwrap();
        let report = generate(&dir.0, &[], false).unwrap();
        assert_eq!(names(&report.kept), [name::QUIC_KEYS]);
        assert!(is_trusted(&dir, "localhost"));
    }

    #[test]
    fn a_new_server_certificate_is_signed_by_the_ca_that_is_there() {
        let dir = CertDir::new("resign");
        generate(&dir.0, &[], false).unwrap();
        let authority = fs::read(dir.path(name::CA)).unwrap();
        fs::remove_file(dir.path(name::SERVER)).unwrap();
        fs::remove_file(dir.path(name::SERVER_KEY)).unwrap();
        generate(&dir.0, &["gw".into()], false).unwrap();
        assert_eq!(fs::read(dir.path(name::CA)).unwrap(), authority);
        assert!(is_trusted(&dir, "gw"));
    }

    #[test]
    fn dev_remakes_what_is_about_to_end_or_cannot_be_read() {
        let dir = CertDir::new("ensure");
        assert_eq!(names(&ensure(&dir.0).unwrap().made), sorted(ALL.into()));
        assert!(ensure(&dir.0).unwrap().made.is_empty());
        let authority = fs::read(dir.path(name::CA)).unwrap();

        for (left, remade) in [(6, true), (8, false)] {
            replace_server(&dir, Duration::from_secs(left * DAY.as_secs()));
            let report = ensure(&dir.0).unwrap();
            assert_eq!(!report.made.is_empty(), remade, "{left} days");
            assert_eq!(fs::read(dir.path(name::CA)).unwrap(), authority);
            assert!(is_trusted(&dir, "localhost"));
        }
        fs::write(dir.path(name::SERVER), "nonsense").unwrap();
        assert_eq!(names(&ensure(&dir.0).unwrap().made), [name::SERVER_KEY, name::SERVER]);
        fs::copy(dir.path(name::CA_KEY), dir.path(name::SERVER_KEY)).unwrap();
        assert_eq!(names(&ensure(&dir.0).unwrap().made), [name::SERVER_KEY, name::SERVER]);
        fs::remove_file(dir.path(name::CA_KEY)).unwrap();
        let report = ensure(&dir.0).unwrap();
        assert_eq!(names(&report.kept), [name::JWT_SECRET, name::QUIC_KEYS]);
        assert!(is_trusted(&dir, "localhost"));
    }

    /// Puts a server certificate with so much left beside the CA that is there.
    fn replace_server(dir: &CertDir, left: Duration) {
        let job = Job::start(&dir.0).unwrap();
        let issuer = job.issuer().unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(subject_names(&[]).unwrap()).unwrap();
        params.not_before = (SystemTime::now() - BACKDATE).into();
        params.not_after = (SystemTime::now() + left).into();
        fs::write(dir.path(name::SERVER), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(dir.path(name::SERVER_KEY), key.serialize_pem()).unwrap();
    }

    #[test]
    fn h18_names_take_underscores_and_lose_the_dot_at_their_end() {
        let dir = CertDir::new("underscores");
        let asked =
            ["gw_1.example.org", "gw.example.org.", "gw.example.org", "*.im.example.org.", "LOCALHOST."];
        generate(&dir.0, &asked.map(str::to_owned), false).unwrap();
        for host in ["gw_1.example.org", "gw.example.org", "a.im.example.org"] {
            assert!(is_trusted(&dir, host), "{host}");
        }
        assert_eq!(inspect(&[dir.leaf(name::SERVER)], SystemTime::now()), Ok(vec![]));
        let made = subject_names(&asked.map(str::to_owned)).unwrap();
        let expected = ["gw_1.example.org", "gw.example.org", "*.im.example.org"];
        assert_eq!(made, [&LOCAL_NAMES[..], &expected].concat(), "each once, in whatever case");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let dir = CertDir::new("names");
        for bad in
            ["", ".", "*.", "*", "a..b", "a b", "a:1", "http://x", "ü", "*.192.0.2.7", "192.0.2.7.", "a.*.b"]
        {
            let message = generate(&dir.0, &[bad.to_owned()], true).unwrap_err().to_string();
            assert!(message.contains("is no name for a certificate"), "{message}");
        }
    }

    #[test]
    fn a_bad_name_leaves_everything_as_it_was() {
        let dir = CertDir::new("bad-name");
        generate(&dir.0, &[], false).unwrap();
        let before = dir.files();
        for force in [true, false] {
            assert!(generate(&dir.0, &["gw".to_owned(), "bad name".to_owned()], force).is_err(), "{force}");
            assert_eq!(dir.files(), before, "{force}");
        }
        assert!(is_trusted(&dir, "localhost"));
    }

    /// Before a write fails, nothing of a set is replaced.
    #[test]
    fn a_set_that_cannot_be_written_whole_is_not_begun() {
        let dir = CertDir::new("full");
        generate(&dir.0, &[], false).unwrap();
        let before = dir.files();
        let blocked = dir.path(".server.pem.new");
        fs::create_dir(&blocked).unwrap();
        assert!(generate(&dir.0, &[], true).is_err());
        fs::remove_dir(&blocked).unwrap();
        let mut after = dir.files();
        after.retain(|name, _| !name.ends_with(".new"));
        assert_eq!(after, before);
        generate(&dir.0, &[], true).unwrap();
        assert!(is_trusted(&dir, "localhost"));
    }

    #[test]
    fn a_server_certificate_of_another_ca_is_noticed() {
        let (dir, other) = (CertDir::new("another"), CertDir::new("stranger"));
        generate(&dir.0, &[], false).unwrap();
        generate(&other.0, &[], false).unwrap();
        for name in [name::CA, name::CA_KEY] {
            fs::copy(other.path(name), dir.path(name)).unwrap();
        }
        fs::remove_file(dir.path(name::JWT_SECRET)).unwrap();
        let before = dir.files();
        let message = generate(&dir.0, &[], false).unwrap_err().to_string();
        assert!(message.contains("server.pem does not verify under "), "{message}");
        assert!(!message.contains("--force") && message.contains("ca.pem"), "{message}");
        assert_eq!(dir.files(), before);

        let made = ensure(&dir.0).unwrap().made;
        assert_eq!(names(&made), sorted(vec![name::SERVER_KEY, name::SERVER, name::JWT_SECRET]));
        assert_eq!(fs::read(dir.path(name::CA)).unwrap(), before[name::CA]);
        assert!(is_trusted(&dir, "localhost"));
    }

    #[test]
    fn a_ca_key_behind_a_password_is_called_that() {
        let dir = CertDir::new("encrypted");
        generate(&dir.0, &[], false).unwrap();
        for name in [name::SERVER, name::SERVER_KEY] {
            fs::remove_file(dir.path(name)).unwrap();
        }
        let key = fs::read_to_string(dir.path(name::CA_KEY)).unwrap();
        fs::write(dir.path(name::CA_KEY), key.replace("PRIVATE", "ENCRYPTED PRIVATE")).unwrap();
        let message = generate(&dir.0, &[], false).unwrap_err().to_string();
        assert!(
            message.contains("ca.key holds an encrypted key; allowed") && !message.contains("--force"),
            "{message}"
        );
    }

    #[test]
    fn a_server_certificate_that_has_ended_still_belongs_to_its_ca() {
        let dir = CertDir::new("ended");
        generate(&dir.0, &[], false).unwrap();
        replace_server(&dir, Duration::ZERO);
        assert_eq!(names(&generate(&dir.0, &[], false).unwrap().kept), sorted(ALL.into()));
    }

    #[test]
    fn two_processes_at_once_make_one_set() {
        let dir = CertDir::new("race");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| ensure(&dir.0).unwrap());
            }
        });
        assert!(is_trusted(&dir, "localhost"));
        assert_eq!(dir.files().len(), ALL.len());
    }

    #[test]
    fn the_key_for_a_balancer_is_made_alone_and_kept() {
        let dir = CertDir::new("quic-lb");
        let report = generate_quic_lb_key(&dir.0, false).unwrap();
        assert_eq!(names(&report.made), [name::QUIC_LB_KEY]);
        let path = dir.path(name::QUIC_LB_KEY);
        let key = QuicLbKey::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(names(&generate_quic_lb_key(&dir.0, false).unwrap().kept), [name::QUIC_LB_KEY]);
        let read = || QuicLbKey::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read(), key);
        generate_quic_lb_key(&dir.0, true).unwrap();
        assert_ne!(read(), key);
    }

    #[test]
    fn the_keys_of_quic_are_made_alone_and_kept() {
        let dir = CertDir::new("quic-keys");
        assert_eq!(names(&generate_quic_keys(&dir.0, false).unwrap().made), [name::QUIC_KEYS]);
        let before = dir.files();
        assert_eq!(before.keys().collect::<Vec<_>>(), [name::QUIC_KEYS]);
        QuicKeys::parse(std::str::from_utf8(&before[name::QUIC_KEYS]).unwrap()).unwrap();
        assert_eq!(names(&generate_quic_keys(&dir.0, false).unwrap().kept), [name::QUIC_KEYS]);
        assert_eq!(dir.files(), before);
        generate_quic_keys(&dir.0, true).unwrap();
        assert_ne!(dir.files(), before);
    }

    #[test]
    fn c28_keys_of_tickets_are_rotated_and_nothing_else_is_touched() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = CertDir::new("tickets");
        let read = || TicketKeys::parse(&fs::read_to_string(dir.path(name::TICKET_KEYS)).unwrap()).unwrap();
        let mut counts = Vec::new();
        let mut last = None;
        for _ in 0..4 {
            let report = rotate_tickets(&dir.0).unwrap();
            assert_eq!(report.made, [dir.path(name::TICKET_KEYS)]);
            let keys = read();
            counts.push(keys.iter().count());
            assert_ne!(last.as_ref(), keys.iter().next());
            last = keys.iter().next().copied();
        }
        assert_eq!(counts, [1, 2, 3, 3]);
        let mode = fs::metadata(dir.path(name::TICKET_KEYS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path(name::CA).exists());
        fs::write(dir.path(name::TICKET_KEYS), "of somebody else\n").unwrap();
        let refused = rotate_tickets(&dir.0).unwrap_err().to_string();
        assert!(refused.contains("line 1 is not: key and 64 hex digits; move it away"), "{refused}");
        assert_eq!(fs::read_to_string(dir.path(name::TICKET_KEYS)).unwrap(), "of somebody else\n");
    }
}
