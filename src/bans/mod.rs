//! Who may not come: accounts, apps and addresses that the administrator has banned, each for good or until a time.
//!
//! Shared by the workers, and looked at where a connection is paid for and where it signs in, never for a message. While
//! nobody is banned a check is one relaxed load. Times within a process are those of its own clock, so that none is over
//! sooner because somebody set the wall clock; the file has the wall clock's, which outlive it.

mod ban;
mod file;
mod network;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use ipnet::IpNet;

pub(crate) use self::ban::{Ban, BanSubject, subject};
pub(crate) use self::file::BansFileError;
pub(crate) use self::network::network;
use crate::limits::MAX_BANS;

/// Why somebody is not banned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BanError {
    /// There is no room.
    #[error("there are {MAX_BANS} bans already; unban somebody, or ban a network or an app in their place")]
    Full,
    /// It would be forgotten by a restart.
    #[error(transparent)]
    File(#[from] BansFileError),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    /// Where they outlive the process; none: they do not.
    file: Option<PathBuf>,
    /// One change at a time, its file included.
    changing: Mutex<()>,
    list: RwLock<Arc<BanList>>,
    /// So many apps and accounts there are.
    identities: AtomicUsize,
    networks: AtomicUsize,
}

/// What is said beside whom it is about.
#[derive(Debug)]
struct Terms {
    until: Option<Instant>,
    reason: Box<str>,
}

/// The bans of one app.
#[derive(Debug, Default)]
struct AppBans {
    all: Option<Terms>,
    accounts: HashMap<Box<str>, Terms>,
}

#[derive(Debug, Default)]
struct BanList {
    apps: HashMap<Box<str>, AppBans>,
    networks: HashMap<IpNet, Terms>,
    /// The lengths there are, of IPv4 and IPv6: only these are looked for.
    lengths: [Vec<u8>; 2],
}

impl Terms {
    fn hold(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Bans {
    /// Those of a file, if there is one; without a file they end with the process.
    ///
    /// # Errors
    /// [`BansFileError`]: it is there and cannot be read, or holds too many.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, BansFileError> {
        let bans = Self { file: file.map(Path::to_owned), ..Self::default() };
        if let Some(file) = file {
            bans.replace(file::read(file, Instant::now())?);
        }
        Ok(bans)
    }

    /// Returns `true` if nobody may come from there now.
    pub(crate) fn bars_address(&self, address: IpAddr, now: Instant) -> bool {
        self.networks.load(Relaxed) > 0 && self.read().bars_address(address.to_canonical(), now)
    }

    /// Returns `true` if any app or account may be barred.
    pub(crate) fn has_identities(&self) -> bool {
        self.identities.load(Relaxed) > 0
    }

    /// Returns `true` if this account of this app may not come now.
    pub(crate) fn bars_account(&self, app: &str, account: &str, now: Instant) -> bool {
        self.has_identities() && self.read().bars_account(app, account, now)
    }

    /// From now on. A ban of the same subject is replaced.
    ///
    /// # Errors
    /// [`BanError`]; nothing changed.
    pub(crate) fn ban(&self, ban: Ban, now: Instant) -> Result<(), BanError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.holding(now);
        all.retain(|other| other.subject != ban.subject);
        if all.len() >= MAX_BANS {
            return Err(BanError::Full);
        }
        all.push(ban);
        self.store(&all, now)?;
        self.replace(all);
        Ok(())
    }

    /// From now on it does not hold. Returns `false` if it did not before.
    ///
    /// # Errors
    /// [`BansFileError`]; nothing changed.
    pub(crate) fn unban(&self, subject: &BanSubject, now: Instant) -> Result<bool, BansFileError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.holding(now);
        let before = all.len();
        all.retain(|ban| ban.subject != *subject);
        if all.len() == before {
            return Ok(false);
        }
        self.store(&all, now)?;
        self.replace(all);
        Ok(true)
    }

    /// All that hold, in the order of their subjects.
    pub(crate) fn holding(&self, now: Instant) -> Vec<Ban> {
        // Nobody who would change it waits for the copy, and no worker behind him.
        let list = Arc::clone(&self.read());
        let mut all = list.holding(now);
        all.sort_unstable_by(|one, other| one.subject.cmp(&other.subject));
        all
    }

    fn store(&self, all: &[Ban], now: Instant) -> Result<(), BansFileError> {
        self.file.as_deref().map_or(Ok(()), |file| file::write(file, all, now))
    }

    /// Made beside the one that is looked at, so that no worker waits for more than the exchange.
    fn replace(&self, all: Vec<Ban>) {
        let mut list = BanList::default();
        all.into_iter().for_each(|ban| list.insert(ban));
        let accounts: usize = list.apps.values().map(|app| app.accounts.len()).sum();
        let (identities, networks) = (list.apps.len() + accounts, list.networks.len());
        let list = Arc::new(list);
        let before = std::mem::replace(&mut *self.list.write().unwrap_or_else(PoisonError::into_inner), list);
        self.identities.store(identities, Relaxed);
        self.networks.store(networks, Relaxed);
        drop(before);
    }

    fn read(&self) -> RwLockReadGuard<'_, Arc<BanList>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BanList {
    fn bars_address(&self, address: IpAddr, now: Instant) -> bool {
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        lengths.iter().any(|length| {
            let network = IpNet::new(address, *length).map(|network| network.trunc());
            network.ok().and_then(|network| self.networks.get(&network)).is_some_and(|terms| terms.hold(now))
        })
    }

    fn bars_account(&self, app: &str, account: &str, now: Instant) -> bool {
        let Some(app) = self.apps.get(app) else { return false };
        app.all.iter().chain(app.accounts.get(account)).any(|terms| terms.hold(now))
    }

    fn insert(&mut self, ban: Ban) {
        let Ban { subject, until, reason } = ban;
        let terms = Terms { until, reason: reason.into() };
        match subject {
            BanSubject::App(app) => self.apps.entry(app.into()).or_default().all = Some(terms),
            BanSubject::Account { app, account } => {
                self.apps.entry(app.into()).or_default().accounts.insert(account.into(), terms);
            }
            BanSubject::Network(network) => {
                let lengths = &mut self.lengths[usize::from(network.addr().is_ipv6())];
                if !lengths.contains(&network.prefix_len()) {
                    lengths.push(network.prefix_len());
                }
                self.networks.insert(network, terms);
            }
        }
    }

    fn holding(&self, now: Instant) -> Vec<Ban> {
        let ban = |subject, terms: &Terms| {
            terms.hold(now).then(|| Ban { subject, until: terms.until, reason: terms.reason.to_string() })
        };
        let of_apps = self.apps.iter().flat_map(|(app, bans)| {
            let all = bans.all.iter().filter_map(|terms| ban(BanSubject::App(app.to_string()), terms));
            let accounts = bans.accounts.iter().filter_map(|(account, terms)| {
                ban(BanSubject::Account { app: app.to_string(), account: account.to_string() }, terms)
            });
            all.chain(accounts).collect::<Vec<_>>()
        });
        let networks =
            self.networks.iter().filter_map(|(network, terms)| ban(BanSubject::Network(*network), terms));
        of_apps.chain(networks).collect()
    }
}

#[cfg(test)]
mod tests;
