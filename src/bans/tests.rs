use std::time::Duration;

use super::*;

fn account(app: &str, account: &str) -> BanSubject {
    BanSubject::Account { app: app.to_owned(), account: account.to_owned() }
}

fn network(text: &str) -> BanSubject {
    BanSubject::Network(text.parse::<IpNet>().unwrap().trunc())
}

fn ban(subject: BanSubject, until: Option<Instant>) -> Ban {
    Ban { subject, until, reason: String::new() }
}

const S: Duration = Duration::from_secs(1);

#[test]
fn accounts_apps_and_networks_are_barred_until_their_time_and_no_others() {
    let (bans, now) = (Bans::default(), Instant::now());
    assert!(!bans.has_identities());
    for (subject, until) in [
        (account("x_im", "alice"), Some(now + S)),
        (BanSubject::App("spam".to_owned()), None),
        (network("192.0.2.0/24"), Some(now + S)),
        (network("2001:db8::/56"), None),
        (network("198.51.100.7/32"), None),
    ] {
        bans.ban(ban(subject, until), now).unwrap();
    }
    let barred = |app, account, at| bans.bars_account(app, account, at);
    assert!(barred("x_im", "alice", now) && !barred("x_im", "alice", now + S), "until its end");
    assert!(!barred("x_im", "bob", now) && !barred("kim", "alice", now));
    assert!(barred("spam", "anybody", now + 1000 * S));
    let barred = |address: &str, at| bans.bars_address(address.parse().unwrap(), at);
    assert!(barred("192.0.2.200", now) && !barred("192.0.2.200", now + S) && !barred("192.0.3.1", now));
    assert!(barred("::ffff:192.0.2.200", now), "IPv4 whatever it comes in");
    assert!(barred("198.51.100.7", now) && !barred("198.51.100.8", now));
    assert!(barred("2001:db8:0:ff::1", now) && !barred("2001:db8:0:100::1", now));

    assert_eq!(bans.holding(now).len(), 5);
    assert_eq!(bans.holding(now + S).len(), 3);
    assert!(bans.unban(&network("198.51.100.7/32"), now).unwrap());
    assert!(!bans.unban(&network("198.51.100.7/32"), now).unwrap(), "it does not hold any more");
    assert!(!bans.bars_address("198.51.100.7".parse().unwrap(), now));
    assert!(bans.bars_address("192.0.2.1".parse().unwrap(), now), "others do");
    bans.unban(&BanSubject::App("spam".to_owned()), now).unwrap();
    bans.unban(&account("x_im", "alice"), now).unwrap();
    assert!(!bans.has_identities());
}

#[test]
fn a_ban_of_the_same_subject_replaces_the_one_before_and_what_has_ended_makes_room() {
    let (bans, now) = (Bans::default(), Instant::now());
    bans.ban(ban(account("x_im", "alice"), Some(now + S)), now).unwrap();
    bans.ban(ban(account("x_im", "alice"), None), now).unwrap();
    assert!(bans.bars_account("x_im", "alice", now + 2 * S));
    assert_eq!(bans.holding(now).len(), 1);
    bans.ban(ban(network("192.0.2.0/24"), Some(now + S)), now).unwrap();
    bans.ban(ban(network("192.0.2.0/25"), None), now + S).unwrap();
    assert_eq!(bans.networks.load(Relaxed), 1);
    assert_eq!(bans.read().lengths[0], [25]);
}

#[test]
fn a_file_outlives_the_process_and_one_that_is_damaged_is_told() {
    let path = std::env::temp_dir().join(format!("gateway-bans-{}", std::process::id()));
    let _not_there = std::fs::remove_file(&path);
    let now = Instant::now();
    let bans = Bans::open(Some(&path)).unwrap();
    let mut with_reason = ban(account("x_im", "al\"ice"), Some(now + 1000 * S));
    with_reason.reason = "spam".to_owned();
    bans.ban(with_reason, now).unwrap();
    bans.ban(ban(network("192.0.2.0/24"), None), now).unwrap();
    bans.ban(ban(BanSubject::App("gone".to_owned()), Some(now + S)), now).unwrap();
    bans.unban(&BanSubject::App("gone".to_owned()), now).unwrap();

    let again = Bans::open(Some(&path)).unwrap();
    let held = again.holding(now);
    assert_eq!(
        held.iter().map(|ban| &ban.subject).collect::<Vec<_>>(),
        [&account("x_im", "al\"ice"), &network("192.0.2.0/24"),]
    );
    assert_eq!(held[0].reason, "spam");
    let left = held[0].left(now).unwrap();
    assert!((990 * S..=1010 * S).contains(&left), "{left:?}");
    assert_eq!(held[1].left(now), None);

    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it names accounts");
    std::fs::write(&path, "{\"address\":\"::ffff:192.0.2.0/120\"}").unwrap();
    let mapped = Bans::open(Some(&path)).unwrap();
    assert!(mapped.bars_address("192.0.2.200".parse().unwrap(), now), "IPv4 whatever it is written in");
    let too_many: String = (0..=MAX_BANS).map(|n| format!("{{\"app\":\"{n}\"}}\n")).collect();
    std::fs::write(&path, too_many).unwrap();
    let told = Bans::open(Some(&path)).unwrap_err().to_string();
    assert!(told.contains("holds more than 100000 bans"), "{told}");

    for (text, problem) in [
        ("{\"account\":\"alice\"}", "line 1: an account without its app"),
        ("{}\n", "line 1: neither an app nor an address"),
        ("\n{\"address\":\"10.0.0\"}", "line 2: \"10.0.0\" is neither an address nor a network"),
        ("{\"acount\":\"alice\"}", "line 1: unknown field `acount`"),
    ] {
        std::fs::write(&path, text).unwrap();
        let told = Bans::open(Some(&path)).unwrap_err().to_string();
        assert!(told.contains(problem), "{told}");
    }
    std::fs::remove_file(&path).unwrap();
    let nowhere = Bans { file: Some("/nowhere/bans".into()), ..Bans::default() };
    let refused = nowhere.ban(ban(network("192.0.2.0/24"), None), now).unwrap_err().to_string();
    assert!(refused.contains("nothing changed"), "{refused}");
    assert!(nowhere.holding(now).is_empty());
    nowhere.replace(vec![ban(network("192.0.2.0/24"), None)]);
    let refused = nowhere.unban(&network("192.0.2.0/24"), now).unwrap_err().to_string();
    assert!(refused.ends_with("nothing changed, because it would not outlive a restart"), "{refused}");
    assert_eq!(nowhere.holding(now).len(), 1);
}

/// Run it optimised and alone.
#[test]
#[ignore = "measures"]
fn a_check_among_a_hundred_thousand() {
    let (bans, now) = (Bans::default(), Instant::now());
    let all = (0..MAX_BANS as u32).map(|n| {
        let subject = match n % 4 {
            0 => BanSubject::Network(IpNet::from(IpAddr::from((0x0a00_0000 + n).to_be_bytes()))),
            1 => BanSubject::Network(IpNet::new(IpAddr::from((n << 8).to_be_bytes()), 24).unwrap().trunc()),
            _ => account("x_im", &format!("user{n}")),
        };
        ban(subject, Some(now + 1000 * S))
    });
    bans.replace(all.collect());
    for (what, look) in [
        (
            "address",
            &(|n: u32| bans.bars_address(IpAddr::from((n * 7).to_be_bytes()), now)) as &dyn Fn(u32) -> bool,
        ),
        ("account", &|n| bans.bars_account("x_im", ["user2", "user77778", "nobody"][(n % 3) as usize], now)),
    ] {
        let begun = Instant::now();
        let barred = (0..1_000_000).filter(|n| look(*n)).count();
        println!("{what}: {:?} a check, {barred} barred", begun.elapsed() / 1_000_000);
    }
}
