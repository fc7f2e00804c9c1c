//! The files that come with the gateway, and the page about migrating.

use super::*;

/// Its example is a configuration, and the keys it names exist.
#[test]
fn the_page_about_migrating_is_true_of_the_configuration() {
    let page = fs::read_to_string(shipped_dir().join("../docs/migrating.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let home = Home::new("migrating");
    let example = example.replace("\"jwt.secret\"", "\"certs/dev/jwt.secret\"");
    let loaded = home.parse(&example.replace("\"route.json\"", "\"config/route.json\""), &[]).unwrap();
    assert_eq!(loaded.config.consul.unwrap().register.unwrap().tags, ["IDC:SH_ALI"]);
    let every_key = shipped("gateway.toml");
    let sections = every_key.lines().filter_map(|line| line.strip_prefix('[')?.split(']').next());
    let sections: Vec<&str> = sections.chain(["discovery.consul", "discovery.register"]).collect();
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let word = word.split(' ').next().unwrap();
        let Some((section, key)) = word.rsplit_once('.').filter(|(section, _)| sections.contains(section))
        else {
            continue;
        };
        if matches!(key, "toml" | "json" | "yaml") {
            continue;
        }
        let stands = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        assert!(every_key.lines().any(stands), "{section}.{key}");
        named += 1;
    }
    assert!(named > 30, "{named} keys");
}

#[test]
fn every_shipped_file_is_accepted() {
    let home = Home::new("shipped");
    let mut opened = 0;
    for entry in fs::read_dir(shipped_dir()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => {
                home.parse(&text, &[]).unwrap();
            }
            Some("json") => {
                Route::from_json(&text).unwrap();
            }
            _ => panic!("{} is neither a configuration nor a route file", path.display()),
        }
        opened += 1;
    }
    assert!(opened >= 2, "no shipped configuration was found");
}

#[test]
fn the_shipped_configuration_is_the_default_in_every_limit_and_names_every_key() {
    let home = Home::new("defaults");
    let loaded = home.parse(&shipped("gateway.toml"), &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.id.as_str(), config.workers, config.dialect), ("gate01", 1, Dialect::XIm));
    assert_eq!(config.tcp, ["[::]:8000".parse().unwrap()]);
    assert_eq!(config.quic.as_ref().unwrap().listen, ["[::]:8000".parse().unwrap()]);
    assert_eq!(config.monitor, Some("127.0.0.1:8001".parse().unwrap()));
    assert_eq!((config.login_service.as_str(), config.instances.len()), ("login", 3));
    assert_eq!(config.log, Log { format: LogFormat::Text, level: tracing::Level::INFO });
    assert_eq!((config.drain_window, config.drain_hard_stop), (DRAIN_WINDOW, DRAIN_HARD_STOP));
    let in_clear = ["tcp.listen: on [::]:8000", "websocket.listen: on [::]:8002"];
    assert_eq!(loaded.warnings, in_clear.map(|listener| format!("{listener} tokens travel in clear")));
    let unset: Vec<_> = loaded
        .effective
        .settings()
        .iter()
        .filter(|setting| setting.origin == ConfigOrigin::Default)
        .map(|setting| format!("{}.{}", setting.section, setting.key))
        .collect();
    assert_eq!(unset, ["login.service"]);
}

#[test]
fn f1_closes_are_spread_over_a_window_except_in_dev() {
    let home = Home::new("drain");
    let window = |dev: bool, more: &str| {
        let options = Options { dev, ..home.options(&[]) };
        let loaded = parse(&minimal(more), "gateway.toml", &options).unwrap();
        let shown = loaded.effective.settings().iter().find(|setting| setting.key == "window").cloned();
        (loaded.config.drain_window, shown.unwrap().value)
    };
    assert_eq!(window(false, ""), (Duration::from_secs(20), "\"20s\"".to_owned()));
    assert_eq!(window(true, ""), (Duration::ZERO, "\"0s\"".to_owned()));
    assert_eq!(window(true, "[drain]\nwindow = \"3s\"\n").0, Duration::from_secs(3));
}

#[test]
fn alice_and_bob_land_in_different_zones_of_the_shipped_route() {
    let route = Route::from_json(&shipped("route.json")).unwrap();
    let selector = crate::dispatch::selector::RouteSelector::new(&route);
    assert_eq!(selector.zone_name(selector.route_key("x_im", "alice").zone), "zone_b");
    assert_eq!(selector.zone_name(selector.route_key("x_im", "bob").zone), "zone_a");
    assert!(route.whitelist().is_empty());
}

#[test]
fn f6_a_bogus_key_is_refused_in_every_table_of_every_shipped_file() {
    let home = Home::new("bogus");
    let text = shipped("gateway.toml");
    let mut planted = 0;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let mut lines: Vec<_> = text.lines().collect();
        lines.insert(at + 1, "bogus = 1");
        let message = home.refused(&lines.join("\n"), &[]);
        assert!(message.contains("bogus: is not a known key; allowed are "), "{line}: {message}");
        assert!(message.ends_with("(from gateway.toml)"), "{message}");
        planted += 1;
    }
    assert_eq!(planted, 21);
    let message = home.refused(&format!("{text}\n[bogus]\na = 1\n"), &[]);
    assert!(message.starts_with("bogus: is not a known key; allowed are gateway, quic,"), "{message}");
    let message = home.refused(&format!("{text}\n[\"bo\\ngus\"]\na = 1\n"), &[]);
    assert!(message.starts_with("bo?gus: is not a known key"), "{message}");
    let message = home.refused(&format!("\"\" = 1\n{text}"), &[]);
    assert!(message.starts_with("\"\": is not a known key"), "{message}");

    let route = shipped("route.json");
    let mut planted = 0;
    for (at, _) in route.match_indices('{') {
        let mut bogus = route.clone();
        bogus.insert_str(at + 1, r#""bogus": 1, "#);
        assert!(Route::from_json(&bogus).unwrap_err().to_string().contains("bogus"), "{bogus}");
        planted += 1;
    }
    assert_eq!(planted, 3);
}
